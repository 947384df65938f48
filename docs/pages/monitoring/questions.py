"""Which five questions are there, in the order in which they are asked?"""

from __future__ import annotations

from typing import Final

from docs.pages.monitoring import ahead, full, hurt, slow, why

QUESTIONS: Final = (slow.QUESTION, why.QUESTION, full.QUESTION, hurt.QUESTION, ahead.QUESTION)
