"""The claims of the press about CloudMatrix 384, each computed: what holds, what fails, on what it depends."""

from supertwin.claims.evaluate import claim_ids, evaluate
from supertwin.claims.result import Claim, Verdict

__all__ = ["Claim", "Verdict", "claim_ids", "evaluate"]
