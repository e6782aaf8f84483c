"""What engines and chips make of a model's own operators."""

from __future__ import annotations

from dataclasses import dataclass

from supertwin.inference.picks import PLAIN_PICKS, Picks
from supertwin.machine.chip import Chip


@dataclass(frozen=True, slots=True)
class Habits:
    """Passes over tokens beside the model's own operators. joins_keys: full latent attention joins the two parts of its
    keys, else it lays the parts of queries and keys out by head; routes_in_passes, wide_gate: see with_routing_passes;
    picks: what sparse cores compute beyond the model's own heads and keys; fuses: see with_fused_kernels;
    whole_drafts: see own_draft_passes; sorts: see with_sorting;
    pairs: see joined_pairs; starts: see with_recipe_kernels; mixes: see with_mixing_kernels; narrow_prompts: see
    with_narrow_cores; compresses: see with_compressors."""

    joins_keys: bool = True
    routes_in_passes: bool = False
    wide_gate: bool = True
    picks: Picks = PLAIN_PICKS
    fuses: bool = False
    whole_drafts: bool = False
    sorts: Chip | None = None
    pairs: bool = False
    starts: bool = False
    mixes: bool = False
    narrow_prompts: bool = False
    compresses: bool = False


PLAIN = Habits()
