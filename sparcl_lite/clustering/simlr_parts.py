"""The parts of SIMLR as pure functions: kernels, diffusion, entropic weights and a t-SNE of a given similarity."""

import numpy as np

NEIGHBORS = range(10, 31, 2)  # of the local scale of a kernel
WIDTHS = (2.0, 1.75, 1.5, 1.25, 1.0)
EPSILON = np.finfo(float).eps
DIFFUSION = 0.8
PERPLEXITY = 20  # of the weights of the kernels
TSNE_ITERATIONS = 1000
TSNE_RATE = 500.0
TSNE_MOMENTUM, TSNE_EARLY = (0.08, 0.1), 250  # the second one after so many iterations
TSNE_BOX = 100.0  # largest coordinate
TINY = np.finfo(float).tiny


def kernel_distances(squared: np.ndarray) -> np.ndarray:
    """Distances `(K_ii + K_jj - 2 K_ij) / 2` of 55 Gaussian kernels, (55, m, m) in single precision.

    `squared` (m, m) holds squared Euclidean distances. The width of a pair is the mean of both samples' mean squared
    distance to their k nearest neighbours, times 1 to 2, for k from 10 to 30 (up to m - 2).
    """
    m = len(squared)
    ordered = np.sort(squared, axis=1)[:, 1:]
    counts = [k for k in NEIGHBORS if k < m - 1] or [m - 2]
    scales = [ordered[:, :k].mean(axis=1) + EPSILON for k in counts]
    return np.stack(
        [_kernel_distance(squared, width * (t[:, None] + t[None, :]) / 2) for t in scales for width in WIDTHS]
    )


def _kernel_distance(squared: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    kernel = np.exp(-0.5 * (squared / sigma) ** 2) / (np.sqrt(2 * np.pi) * sigma)
    kernel = (kernel + kernel.T) / 2
    own = kernel.diagonal()
    distance = (own[:, None] + own[None, :] - 2 * kernel) / 2
    np.fill_diagonal(distance, 0)
    return distance.astype(np.float32)


def diffuse(similarity: np.ndarray, neighbors: int) -> np.ndarray:
    """The similarity (m, m) spread along its `neighbors` strongest links per sample, symmetric, zero diagonal."""
    links = strongest(similarity - np.diag(similarity.diagonal()), neighbors)
    degree = np.abs(links).sum(axis=1)
    field = transition_field(links + np.diag(1 + degree))
    values, vectors = np.linalg.eigh(field)
    values = values + EPSILON
    filtered = (1 - DIFFUSION) * values / (1 - DIFFUSION * values**2)
    spread = (vectors * filtered) @ vectors.T
    remaining = 1 - spread.diagonal()
    spread = spread * (1 - np.eye(len(spread))) / remaining[:, None] * degree[:, None]
    return (spread + spread.T) / 2


def strongest(similarity: np.ndarray, count: int) -> np.ndarray:
    """The `count` largest entries of every row, the rest zero, made symmetric by the mean with its transpose."""
    kept = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
    sparse = np.zeros_like(similarity)
    np.put_along_axis(sparse, kept, np.take_along_axis(similarity, kept, axis=1), axis=1)
    return (sparse + sparse.T) / 2


def transition_field(weights: np.ndarray) -> np.ndarray:
    """`P D^-1 P'` with P the row-normalised weights and D its column sums: symmetric, eigenvalues in 0 to 1."""
    P = normalise_rows(weights)
    P = P / np.sqrt(P.sum(axis=0) + EPSILON)
    return P @ P.T


def normalise_rows(values: np.ndarray) -> np.ndarray:
    """Every row over the sum of its magnitudes."""
    return values / (np.abs(values).sum(axis=1, keepdims=True) + EPSILON)


def laplacian(S: np.ndarray) -> np.ndarray:
    """`D - S`, D the row sums."""
    return np.diag(S.sum(axis=1)) - S


def entropic_weights(scores: np.ndarray, perplexity: float = PERPLEXITY) -> np.ndarray:
    """Weights `exp(-b score)`, summing to 1, with the b whose entropy is log(perplexity): low scores weigh most."""
    target, low, high = np.log(min(perplexity, len(scores))), 0.0, 1.0
    shifted = scores - scores.min()
    if not shifted.any():
        return np.full(len(scores), 1 / len(scores))
    while _entropy(_softmin(shifted, high)) > target and high < 1e12:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _entropy(_softmin(shifted, middle)) > target else (low, middle)
    return _softmin(shifted, high)


def _softmin(scores: np.ndarray, inverse: float) -> np.ndarray:
    weights = np.exp(-inverse * scores)
    return weights / weights.sum()


def _entropy(p: np.ndarray) -> float:
    return float(-(p * np.log(p + EPSILON)).sum())


def tsne(similarity: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Coordinates (m, c) whose Student-t similarities follow `similarity` (m, m), by gradient descent from `start`.

    Source: van der Maaten and Hinton (2008) with given probabilities and a given start, so without exaggeration; rate,
    momentum and box are those of SIMLR's authors' code.
    """
    P = (similarity + similarity.T) / 2
    np.fill_diagonal(P, 0)
    P = np.maximum(P / max(P.sum(), TINY), TINY)
    Y, step, gains = start.copy(), np.zeros_like(start), np.ones_like(start)
    for iteration in range(TSNE_ITERATIONS):
        squares = np.square(Y).sum(axis=1)
        student = 1 / (1 + squares[:, None] + squares[None, :] - 2 * Y @ Y.T)
        np.fill_diagonal(student, 0)
        pull = (P - np.maximum(student / student.sum(), TINY)) * student
        gradient = 4 * (pull.sum(axis=1)[:, None] * Y - pull @ Y)
        gains = np.maximum(np.where(np.sign(gradient) != np.sign(step), gains + 0.2, gains * 0.8), 0.01)
        step = TSNE_MOMENTUM[iteration >= TSNE_EARLY] * step - TSNE_RATE * gains * gradient
        Y = Y + step
        Y = np.clip(Y - Y.mean(axis=0), -TSNE_BOX, TSNE_BOX)
    return Y
