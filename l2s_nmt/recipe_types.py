"""Kinds of values in a recipe."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
"""Unknown keys and values of another type are errors."""

Count = Annotated[int, Field(ge=1, le=2**53)]
Natural = Annotated[int, Field(ge=0, le=2**53)]
Width = Annotated[int, Field(ge=1, le=2**16)]
Depth = Annotated[int, Field(ge=1, le=1_000)]
MOST_BEAMS = 1_000
Beam = Annotated[int, Field(ge=1, le=MOST_BEAMS)]
MOST_PENALTY = 50
Penalty = Annotated[float, Field(ge=-MOST_PENALTY, le=MOST_PENALTY)]
"""Powers of a number of tokens; of much larger ones there is no number."""
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[float, Field(gt=0)]
Temperature = Annotated[float, Field(ge=1e-6)]
"""Scores divided by less would be infinite."""
NonNegative = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Language = Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z0-9_-]+$")]
Name = Annotated[str, Field(min_length=1)]
"""Of a folder, on the hub or in Python; an empty one would be the current folder."""
