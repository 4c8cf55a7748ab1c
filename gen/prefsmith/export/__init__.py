"""Files that a trainer loads as they are, and the proof that they still say what the run said."""

from prefsmith.export.formats import FORMATS, Format
from prefsmith.export.naming import Naming
from prefsmith.export.verify import verify_file
from prefsmith.export.writer import Written, write

__all__ = ["FORMATS", "Format", "Naming", "Written", "verify_file", "write"]
