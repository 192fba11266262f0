"""What computes each node, in which layouts, and where every tensor lives: the decisions about a graph.

`select` says what could compute a node and at what price, `assign` and `elimination` choose over the whole
graph, `layout` puts conversions where layouts meet. `aliases`, `views` and `allocate` place tensors, `memory`
makes of it the steps that `program` describes.
"""
