"""`prefsmith eval`: several arms (models, or one model asked in several ways) on the same prompts, and what tells them
apart. An evaluation is a run like any other; its report is a pure function of the view.
"""
