"""Recurrent layers, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from onnxslim.tune.operators.table import Call, Value, operator

Activation = Callable[[Value], Value]
State = tuple[Value, ...]
"""What one step hands to the next: the hidden state, and the cell of an LSTM."""

_ACTIVATIONS: dict[str, Callable[[float | None, float | None], Activation]] = {
    "relu": lambda a, b: torch.relu,
    "tanh": lambda a, b: torch.tanh,
    "sigmoid": lambda a, b: torch.sigmoid,
    "softsign": lambda a, b: functional.softsign,
    "softplus": lambda a, b: functional.softplus,
    "affine": lambda a, b: lambda x: _or(a, 1.0) * x + _or(b, 0.0),
    "leakyrelu": lambda a, b: lambda x: functional.leaky_relu(x, _or(a, 0.01)),
    "thresholdedrelu": lambda a, b: lambda x: torch.where(x >= _or(a, 1.0), x, 0.0 * x),
    "scaledtanh": lambda a, b: lambda x: _or(a, 1.0) * torch.tanh(_or(b, 1.0) * x),
    "hardsigmoid": lambda a, b: lambda x: torch.clamp(_or(a, 0.2) * x + _or(b, 0.5), 0, 1),
    "elu": lambda a, b: lambda x: functional.elu(x, _or(a, 1.0)),
}


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


@dataclass(frozen=True)
class _Layer:
    """One direction of a recurrent layer; what belongs to all gates is in *w*, *r* and biases."""

    call: Call
    w: Value
    r: Value
    wb: Value
    rb: Value
    peepholes: Value | None
    activations: list[Activation]

    def input(self, x: Value) -> Value:
        """Return what all gates get of the inputs."""
        return functional.linear(x, self.w, self.wb)

    def clipped(self, value: Value) -> Value:
        """Bound what goes into an activation."""
        clip = self.call.attr("clip")
        return value if clip is None else torch.clamp(value, -clip, clip)


def _rnn_step(layer: _Layer, x: Value, state: State) -> State:
    (f,) = layer.activations
    return (f(layer.clipped(x + functional.linear(state[0], layer.r, layer.rb))),)


def _gru_step(layer: _Layer, x: Value, state: State) -> State:
    f, g = layer.activations
    (hidden,) = state
    size = hidden.shape[-1]
    r_gates, r_new = layer.r[: 2 * size], layer.r[2 * size :]
    b_gates, b_new = layer.rb[: 2 * size], layer.rb[2 * size :]
    gates = f(layer.clipped(x[..., : 2 * size] + functional.linear(hidden, r_gates, b_gates)))
    update, reset = gates[..., :size], gates[..., size:]
    if layer.call.attr("linear_before_reset", 0):
        recurrent = reset * functional.linear(hidden, r_new, b_new)
    else:
        recurrent = functional.linear(reset * hidden, r_new, b_new)
    new = g(layer.clipped(x[..., 2 * size :] + recurrent))
    return ((1 - update) * new + update * hidden,)


def _lstm_step(layer: _Layer, x: Value, state: State) -> State:
    f, g, h = layer.activations
    hidden, cell = state
    gates = (x + functional.linear(hidden, layer.r, layer.rb)).chunk(4, -1)
    enter, leave, forget, new = gates
    if layer.peepholes is not None:
        to_enter, to_leave, to_forget = layer.peepholes.chunk(3)
        enter, forget = enter + to_enter * cell, forget + to_forget * cell
    entering = f(layer.clipped(enter))
    coupled = layer.call.attr("input_forget", 0)
    kept = 1 - entering if coupled else f(layer.clipped(forget))
    cell = kept * cell + entering * g(layer.clipped(new))
    if layer.peepholes is not None:
        leave = leave + to_leave * cell
    return f(layer.clipped(leave)) * h(cell), cell


_STEPS: dict[str, Callable[[_Layer, Value, State], State]] = {
    "RNN": _rnn_step,
    "GRU": _gru_step,
    "LSTM": _lstm_step,
}
_DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}


@operator("RNN", "GRU", "LSTM")
def _recurrent(
    call: Call, x: Value, w: Value, r: Value, b: Value | None = None,
    lengths: Value | None = None, hidden: Value | None = None, cell: Value | None = None,
    peepholes: Value | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    flip = call.attr("layout", 0)
    if flip:
        x, hidden, cell = (v if v is None else v.transpose(0, 1) for v in (x, hidden, cell))
    count, size = r.shape[0], r.shape[2]
    states = (hidden, cell) if call.op == "LSTM" else (hidden,)
    outputs, finals = list[Value](), list[State]()
    for at in range(count):
        layer = _layer(call, at, w[at], r[at], b, peepholes)
        start = tuple(x.new_zeros(x.shape[1], size) if s is None else s[at] for s in states)
        backward = call.attr("direction", "forward") == "reverse" or at == 1
        output, final = _unrolled(layer, x, start, lengths, backward)
        outputs.append(output)
        finals.append(final)
    stacked = torch.stack(outputs, 1)
    last = tuple(torch.stack(parts) for parts in zip(*finals, strict=True))
    if flip:
        return stacked.permute(2, 0, 1, 3), *(part.transpose(0, 1) for part in last)
    return stacked, *last


def _layer(
    call: Call, at: int, w: Value, r: Value, b: Value | None, peepholes: Value | None
) -> _Layer:
    names = _DEFAULTS[call.op]
    given = call.attr("activations") or names * 2
    each = len(names)
    alphas, betas = (_spread(call, name, given) for name in ("activation_alpha", "activation_beta"))
    places = range(at * each, (at + 1) * each)
    activations = [_ACTIVATIONS[given[p].lower()](alphas[p], betas[p]) for p in places]
    wb, rb = w.new_zeros(2, w.shape[0]) if b is None else b[at].reshape(2, -1)
    return _Layer(call, w, r, wb, rb, None if peepholes is None else peepholes[at], activations)


def _spread(call: Call, name: str, activations: list[str]) -> list[float | None]:
    """Give the values of an attribute to the activations that take one, in order."""
    takes = {"affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu"}
    if name == "activation_beta":
        takes = {"affine", "scaledtanh", "hardsigmoid"}
    values = iter(call.attr(name) or ())
    return [next(values, None) if a.lower() in takes else None for a in activations]


def _unrolled(
    layer: _Layer, x: Value, state: State, lengths: Value | None, backward: bool
) -> tuple[Value, State]:
    """Run one direction; sequences that have ended keep their state and put out zeros."""
    inputs, step = layer.input(x), _STEPS[layer.call.op]
    outputs, order = list[Value](), range(x.shape[0])
    for time in reversed(order) if backward else order:
        new = step(layer, inputs[time], state)
        if lengths is None:
            outputs.append(new[0])
            state = new
            continue
        runs = (time < lengths).reshape(-1, 1)
        outputs.append(torch.where(runs, new[0], torch.zeros_like(new[0])))
        state = tuple(torch.where(runs, n, s) for n, s in zip(new, state, strict=True))
    if backward:
        outputs.reverse()
    return torch.stack(outputs), state
