"""vLLM run by prefsmith itself: in this process or as a server of its own, watched, restarted and stopped here."""

from prefsmith.backends.vllm.backend import VllmInProcess, VllmServer
from prefsmith.backends.vllm.local import Local, local

__all__ = ["Local", "VllmInProcess", "VllmServer", "local"]
