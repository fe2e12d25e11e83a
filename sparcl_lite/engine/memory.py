"""Memory of gradients of expressions: which of them can share it, because no two of them are needed at one time."""

from sparcl_lite.engine.graph import Expression, Graph


class GradientPlan:
    """Where the gradient of each expression lies in one array, for a backward pass through the stages, last to first.

    Attributes
    ----------
    offsets : first float of each expression's gradient, by `id`
    size : floats of the array
    shares : by `id`, expressions whose gradient is added to in the place of the sum's that they are part of
    """

    def __init__(self, graph: Graph, capacity: int, *, inputs_train: bool):
        self.graph = graph
        self.number = {id(stage.expression): i for i, stage in enumerate(graph.stages)}
        self.made_in = {id(op.y): i for i, stage in enumerate(graph.stages) for op in stage.operations if op.y}
        self.inputs, self.inputs_train = {id(m) for m in graph.inputs}, inputs_train
        self.shares: set[int] = set()
        owner, lives = self._lives()
        items = sorted(lives, key=lambda i: -graph.stages[i].expression.like.floats(capacity))
        placed: list[tuple[int, int, int, int]] = []  # start, end, first and last stage
        starts = {}
        for i in items:
            size, (low, high) = graph.stages[i].expression.like.floats(capacity), lives[i]
            start = 0
            for other_start, other_end, other_low, other_high in sorted(placed):
                if other_low <= high and low <= other_high and other_start < start + size:
                    start = max(start, other_end)
            starts[i] = start
            placed.append((start, start + size, low, high))
        self.size = max((end for _, end, _, _ in placed), default=0)
        self.offsets = {id(graph.stages[i].expression): starts[owner[i]] for i in owner}

    def needed(self, expression: Expression) -> bool:
        """Whether anything behind the expression trains: not for images alone."""
        made = any(
            id(a.map) not in self.inputs or a.norm is not None or a.biased is not None for a in expression.affines
        )
        return made or self.inputs_train or (expression.inner is not None and self.needed(expression.inner))

    def _lives(self) -> tuple[dict[int, int], dict[int, tuple[int, int]]]:
        """The stage whose memory each stage uses, and from which stage down to which one such memory is in use."""
        owner, lives = {}, {}
        for i in reversed(range(len(self.graph.stages))):
            expression = self.graph.stages[i].expression
            if not self.needed(expression):
                continue
            last = min((self.made_in.get(id(a.map), -1) for a in expression.affines), default=i)
            last = min(last, i)
            if i not in owner:
                owner[i], lives[i] = i, (last, i)
            mine = owner[i]
            lives[mine] = (min(lives[mine][0], last), lives[mine][1])
            inner = expression.inner
            if inner is None or not self.needed(inner):
                continue
            j = self.number[id(inner)]
            if j not in owner and all(self.made_in.get(id(a.map), -1) > j for a in expression.affines):
                owner[j] = mine
                self.shares.add(id(expression))
            elif j not in owner:
                owner[j], lives[j] = j, (j, i)
            lives[owner[j]] = (min(lives[owner[j]][0], j), lives[owner[j]][1])
        return owner, lives
