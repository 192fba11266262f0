"""Functions of a model: operators that it defines by others, put in place of each call."""

from __future__ import annotations

import networkx as nx
import onnx
import onnx.inliner

from convc.errors import ModelError


def inlined(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model without functions of its own. Weights must have been taken out: the inliner copies all.

    Functions that use other opsets than the model are converted where ONNX can. Raises ModelError when a
    function of the model called `name` calls itself or is called wrongly.
    """
    if not model.functions:
        return model
    calls = nx.DiGraph()
    for function in model.functions:
        calls.add_edges_from(((function.domain, function.name), (n.domain, n.op_type)) for n in function.node)
    if not nx.is_directed_acyclic_graph(calls):  # onnx's inliner crashed on these before 1.20
        (domain, op_type), _ = nx.find_cycle(calls)[0]
        raise ModelError(f"Function '{op_type}' of domain '{domain}' in '{name}' calls itself.")
    try:
        return onnx.inliner.inline_local_functions(model, convert_version=True)
    except (onnx.checker.ValidationError, RuntimeError) as error:  # the inliner raises either
        reason = str(error).splitlines()[0]
        raise ModelError(f"The functions of '{name}' cannot be expanded: {reason}") from error
