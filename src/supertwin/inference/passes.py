"""Passes over tokens beside the model's own operators: copies for latent attention and around exchanges of tokens."""

from __future__ import annotations

from supertwin.core.formats import number_format
from supertwin.model.spec import AttentionSpec
from supertwin.workload.operators import Communication, Gemm, Operator, Real, Vector, changed


def with_latent_copies(ops: list[Operator], block: AttentionSpec, joined: bool) -> list[Operator]:
    """Copies that full latent attention makes of queries and keys before the core, per token and head.

    joined: the keys of all heads are written from their two parts (vLLM MLACommonImpl: torch.cat of k_nope and the
    expanded k_pe; SGLang forward_normal: two copies into an empty k). Else the core takes the parts apart, laid out by
    head: the slice of q without position, the turned slice on its way to the rotation, and the turned key once per
    head (cann-recipes-infer forward_page_attention_normal: permute, transpose and repeat around
    npu_fused_infer_attention_score in layout NTD).
    """
    plain, turned = block.qk_nope_head_dim, block.qk_rope_head_dim
    read, written = (plain, block.qk_head_dim) if joined else (plain + turned, plain + 2 * turned)
    out: list[Operator] = []
    for o in ops:
        out.append(o)
        if isinstance(o, Gemm) and o.part == "attention/kv":
            bytes_each = 2.0 * o.m * (o.n / (plain + block.v_head_dim))
            moved = (bytes_each * read, bytes_each * written)
            kind = "copy" if joined else "permute"
            out.append(Vector(part="attention/keys", op=kind, bytes_read=moved[0], bytes_written=moved[1], tokens=o.m))
    return out


def with_routing_passes(ops: list[Operator], skew: Real = 1.0, wide_gate: bool = True) -> list[Operator]:
    """Tokens are copied in the order of their experts before an all-to-all, sorted by local expert after it, put back
    into the order of arrival before the way home, and summed at home (cann-recipes-infer, DeepSeek-R1 prefill, "double
    routing": init_routing, re_routing, index_select, finalize_routing). The gate runs on a copy of the tokens in FP32
    (MoEGate: hidden_states.to(torch.float32)). Decode steps run fused kernels instead.

    skew: rows that the busiest rank gets over those that a full rank sends; the passes between the two ways take them.
    wide_gate: the chip multiplies FP32 (TPUs and Gaudi do not; their gate stays as the model has it).
    """
    out: list[Operator] = []
    for o in ops:
        if wide_gate and isinstance(o, Gemm) and o.part == "moe/router":
            cells = o.m * o.k
            cast = Vector(part="moe/router", op="copy", bytes_read=cells * 2.0, bytes_written=cells * 4.0, tokens=o.m)
            out += [cast, changed(o, dtype="fp32", weight_dtype="")]
            continue
        if not isinstance(o, Communication) or o.op not in ("dispatch", "combine"):
            out.append(o)
            continue
        values: Real = o.tokens * o.hidden
        sent: Real = values * o.topk * number_format(o.dtype).bytes_per_element
        kept: Real = values * 2.0
        away = sent * skew
        home = o.op == "combine"
        before = (away, away) if home else (kept, sent)
        after = (sent + kept, kept) if home else (away, away)
        out += [_permute(*before), o, _permute(*after)]
    return out


def _permute(bytes_read: Real, bytes_written: Real) -> Vector:
    return Vector(part="moe/permute", op="permute", bytes_read=bytes_read, bytes_written=bytes_written)
