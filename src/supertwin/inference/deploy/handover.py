"""Keys and values of a prompt on their way from a prefill to a decode instance.

A request lies on the tp x pp x cp devices of one attention rank at either end. A receiving device needs its share of
the heads (all of a latent cache), so receivers x share bytes are sent; they come from all devices of the sending rank,
each of which serves as many receivers as the next one (CM384 paper 4.3.3: decode ranks are mapped evenly to prefill
ranks). With s senders and r receivers

    transfer = blocks / min(s, r) x time(block),  exposed = transfer, or with layer-wise sending
    exposed = max(transfer / layers, transfer - prefill (layers - 1) / layers)                               (1)

Different tp at the two ends cuts blocks of heads into pieces of the finer side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from supertwin.inference import engines
from supertwin.inference.case import Deployment
from supertwin.inference.deploy.planes import line
from supertwin.inference.deploy.prefix import BLOCK_TOKENS
from supertwin.inference.deploy.service import Service
from supertwin.inference.layers import shard_of
from supertwin.inference.memory import sequence_bytes
from supertwin.inference.placement import kv_heads, place


@dataclass(frozen=True, slots=True)
class Handover:
    """One request's transfer. bytes_per_token: one copy, over all layers; wire_bytes: what is sent, copies included;
    transfer_s: alone on its links; exposed_s: what is not hidden behind prefill; link_bytes_per_s: rate of one link at
    this block size; senders, receivers: devices of one rank at either end."""

    plane: str
    bytes_per_token: float
    wire_bytes: float
    block_bytes: float
    transfer_s: float
    exposed_s: float
    link_bytes_per_s: float
    line_bytes_per_s: float
    senders: int
    receivers: int

    def link_shares(self, service: Service, requests_per_s: float) -> tuple[float, float]:
        """Share of the links of all prefill and all decode devices that the transfers take at a rate of requests."""
        sent = requests_per_s * self.wire_bytes / self.link_bytes_per_s
        return sent / max(service.prefill_devices, 1), sent / service.decode_devices

    def most_requests_per_s(self, service: Service) -> float:
        """Rate at which the links of the smaller side are full."""
        return 1.0 / max(*self.link_shares(service, 1.0), 1e-30)


def held_bytes(service: Service, deployment: Deployment, tokens: float) -> float:
    """Bytes of one sequence of `tokens` on one device of its rank, all layers (a pipeline stage holds its part)."""
    engine = engines.engine(deployment.framework, service.system.chip)
    placement = place(deployment)
    shard = shard_of(service.model, deployment, placement, service.system.chip, engine)
    return float(np.max(sequence_bytes(service.model, shard, tokens))) / deployment.pp


def handover(service: Service, prefill_s: float, pull: bool = True) -> Handover:
    """The transfer of one prompt; prefill_s: time of its prefill, behind which layer-wise sending hides (1)."""
    sender, receiver = service.prefill, service.decode
    senders = sender.tp * sender.pp * sender.token_split
    receivers = receiver.tp * receiver.pp
    layers = service.model.n_layers
    tokens = service.input_len
    heads = max(kv_heads(service.model), 1)
    one_copy = held_bytes(service, _whole(receiver), tokens)
    wire = receivers * held_bytes(service, receiver, tokens)
    cut = max(min(sender.tp, heads), min(receiver.tp, heads))
    block = max(one_copy / tokens / layers * min(BLOCK_TOKENS, tokens) / cut, 1.0)
    way = line(service.system, service.plane, pull=pull)
    transfer = way.seconds(block, wire / block) / min(senders, receivers)
    exposed = transfer
    if service.layerwise:
        exposed = max(transfer / layers, transfer - prefill_s * (layers - 1.0) / layers)
    return Handover(
        plane=way.plane,
        bytes_per_token=one_copy / tokens,
        wire_bytes=wire,
        block_bytes=block,
        transfer_s=transfer,
        exposed_s=exposed,
        link_bytes_per_s=way.bytes_per_s(block),
        line_bytes_per_s=way.line_bytes_per_s,
        senders=senders,
        receivers=receivers,
    )


def _whole(deployment: Deployment) -> Deployment:
    """The deployment as one device would hold a sequence: nothing cut."""
    return Deployment(kv_dtype=deployment.kv_dtype, framework=deployment.framework)
