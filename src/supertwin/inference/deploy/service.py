"""What is served, and how the machine is split for it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from supertwin.core.errors import InputError
from supertwin.inference import engines
from supertwin.inference.case import Deployment, InferenceCase
from supertwin.inference.deploy.planes import plane_of
from supertwin.inference.deploy.prefix import medium_of
from supertwin.inference.launch import scheduled
from supertwin.inference.notes import computed_rate
from supertwin.inference.predict import prepared
from supertwin.machine.system import System
from supertwin.machine.systems import with_devices
from supertwin.model.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Service:
    """A deployment and the requests it gets.

    prefill, decode: one instance of each kind; prefill_instances = 0: every instance of `decode` does both.
    input_len, output_len: tokens of a request. hit_rate: share of the prompt that the context cache holds; cache: where
    it lies (prefix.MEDIA). plane: over which the keys and values of a prompt reach the decode instance
    (planes.PLANES). layerwise: they leave layer by layer while later layers are computed, else after the last one.
    decode_first: the user's first token comes from the decode instance (vLLM's proxy: prefill runs with max_tokens 1).
    """

    model: ModelSpec
    system: System
    prefill: Deployment
    decode: Deployment
    prefill_instances: int
    decode_instances: int
    input_len: float = 4096.0
    output_len: float = 1024.0
    hit_rate: float = 0.0
    cache: str = "hbm"
    plane: str = "rdma"
    layerwise: bool = False
    decode_first: bool = True

    def __post_init__(self) -> None:
        """Raise InputError for a split or a request that cannot be."""
        object.__setattr__(self, "prefill", replace(self.prefill, cp_adds_devices=True, mtp_tokens=0))
        if self.prefill_instances < 0 or self.decode_instances < 1:
            raise InputError(
                f"{self.prefill_instances} prefill and {self.decode_instances} decode instances: expected at least 0"
                " and 1 (0 prefill instances: every instance does both)"
            )
        if not (1 <= self.input_len < math.inf and 1 <= self.output_len < math.inf):
            raise InputError(f"input {self.input_len:g} and output {self.output_len:g} tokens: expected at least 1")
        if not 0.0 <= self.hit_rate < 1.0:
            raise InputError(f"hit rate {self.hit_rate:g}: expected 0 to below 1 (the last token is always computed)")
        if self.devices > self.system.devices:
            raise InputError(
                f"{self.prefill_instances} x {self.prefill.devices} prefill and {self.decode_instances} x "
                f"{self.decode.devices} decode devices = {self.devices}, but {self.system.name} has "
                f"{self.system.devices}; take fewer instances or {self.system.name.partition(':')[0]}:{self.devices}"
            )
        object.__setattr__(self, "decode", self._as_predicted(self.decode, "decode"))
        if self.disaggregated:
            prefill = self._as_predicted(self.prefill, "prefill")
        else:
            same = ("weight_dtype", "activation_dtype", "part_dtypes", "expert_balance")
            prefill = replace(self.prefill, **{name: getattr(self.decode, name) for name in same})
        object.__setattr__(self, "prefill", prefill)
        medium_of(self.system, self.cache)
        if self.disaggregated:
            plane_of(self.system, self.plane)

    def _as_predicted(self, deployment: Deployment, phase: str) -> Deployment:
        """The deployment with what a step's prediction fills in. Raises InputError where it is illegal."""
        system = with_devices(self.system, deployment.devices)
        asked, context = int(self.input_len), int(self.input_len + self.output_len)
        case = InferenceCase(self.model, system, deployment, phase, 1.0, input_len=asked, kv_len=context)
        made = prepared(case)
        computed_rate(made)
        return made.deployment

    @property
    def disaggregated(self) -> bool:
        """Whether prefill has instances of its own."""
        return self.prefill_instances > 0

    @property
    def prefill_devices(self) -> int:
        """Devices of all prefill instances."""
        return self.prefill_instances * self.prefill.devices

    @property
    def decode_devices(self) -> int:
        """Devices of all decode instances."""
        return self.decode_instances * self.decode.devices

    @property
    def devices(self) -> int:
        """Devices of the deployment."""
        return self.prefill_devices + self.decode_devices

    @property
    def new_tokens(self) -> float:
        """Tokens of a prompt that prefill computes: at least the last one."""
        return max(self.input_len * (1.0 - self.hit_rate), 1.0)

    @property
    def cached_tokens(self) -> float:
        """Tokens of a prompt that come from the context cache."""
        return self.input_len - self.new_tokens

    @property
    def engine(self) -> engines.Engine:
        """The serving engine of the decode side, as it schedules the model."""
        about = engines.engine(self.decode.framework, self.system.chip)
        return scheduled(about, self.model, self.decode)

    @property
    def accepted(self) -> float:
        """Tokens per request and decode step."""
        return 1.0 + self.decode.mtp_tokens * self.decode.mtp_acceptance
