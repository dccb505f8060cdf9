"""The papers' formulas as loops over rows, in plain Python: what the objectives are held against."""

import itertools
import math

Rows = list[list[float]]


def unit(x) -> Rows:
    return [[v / math.sqrt(sum(u * u for u in row)) for v in row] for row in x.tolist()]


def dot(a, b) -> float:
    return sum(p * q for p, q in zip(a, b, strict=True))


def pick(right: float, others: list[float]) -> float:
    """-log of the softmax share of the right score among it and others."""
    top = max([right, *others])
    return top - right + math.log(sum(math.exp(s - top) for s in [right, *others]))


class Guide:
    """A guide's rows of both views and of hard negatives, of unit length, and its margins."""

    def __init__(self, x: Rows, y: Rows, hard: list[Rows] | None = None, absolute=0.0, relative=0.0) -> None:
        self.sides, self.hard = (x, y), hard or [[] for _ in x]
        self.absolute, self.relative = absolute, relative

    def leaves_out(self, anchor: list[float], candidate: list[float], *positives: list[float]) -> bool:
        """Whether a candidate is nearer to the anchor than its nearest positive, by the margins."""
        if not positives:
            return False
        cosine = max(dot(anchor, positive) for positive in positives)
        return dot(anchor, candidate) > cosine - self.absolute - self.relative * abs(cosine)

    def of_pair(self, i: int, side: int, candidates: Rows) -> set[int]:
        """The candidates that are left out for row i of a side, by their numbers."""
        anchor, positive = self.sides[side][i], self.sides[1 - side][i]
        return {j for j, row in enumerate(candidates) if self.leaves_out(anchor, row, positive)}


def others(i: int, anchors: Rows, candidates: Rows, tau: float, kin, ids, out=frozenset()) -> list[float]:
    """Scores of anchor i with all candidates but the i-th, those in ``out`` and copies of what it is kin to."""
    return [
        dot(anchors[i], row) / tau for j, row in enumerate(candidates) if j != i and j not in out and ids[j] not in kin
    ]


def contrast(x, y, tau=0.05, ids=None, hard=None, guide=None, **kind: bool) -> float:
    """InfoNCE and its kin (``symmetric``, ``same_side``, ``decoupled``), of rows as they are.

    ``hard``: each pair's hard negatives, and their log-weight.
    """
    assert set(kind) <= {"symmetric", "same_side", "decoupled"}
    symmetric, same_side, decoupled = (kind.get(name, False) for name in ("symmetric", "same_side", "decoupled"))
    n, (hard, weight) = len(x), hard or ((), 0.0)
    ids = ids or [[i, n + i, *(-1 for _ in (hard[i] if hard else ()))] for i in range(n)]
    total, counted = 0.0, 0
    for a, b, side in ((x, y, 0), (y, x, 1)) if symmetric else ((x, y, 0),):
        for i in range(n):
            kin, right = set(ids[i][:2]), dot(a[i], b[i]) / tau
            out = [guide.of_pair(i, side, guide.sides[other]) if guide else set() for other in (0, 1)]
            wrong = others(i, a, b, tau, kin, [row[1 - side] for row in ids], out[1 - side])
            if same_side:
                wrong += others(i, a, a, tau, kin, [row[side] for row in ids], out[side])
            for j, rows in enumerate(hard):
                bonus, false = weight if i == j else 0, guide.of_pair(i, side, guide.hard[j]) if guide else set()
                numbers = [k for k in range(len(rows)) if k not in false and ids[j][2 + k] not in kin]
                wrong += [dot(a[i], rows[k]) / tau + bonus for k in numbers]
            if decoupled and wrong:
                total, counted = total + math.log(sum(map(math.exp, wrong))) - right, counted + 1
            elif not decoupled:
                total, counted = total + pick(right, wrong), counted + 1
    return total / max(1, counted)


def supcon(x, y, tau, labels, ids=None, guide=None) -> float:
    n = len(x)
    theirs = guide.sides[0] + guide.sides[1] if guide else []
    views, classes = x + y, labels + labels
    names = [row[0] for row in ids] + [row[1] for row in ids] if ids else list(range(2 * n))
    total = 0.0
    for i in range(2 * n):
        kin = set(ids[i % n]) if ids else set()
        out = guide.of_pair(i % n, i // n, theirs) if guide else set()
        counted = [
            j for j in range(2 * n) if j != i and (classes[j] == classes[i] or (names[j] not in kin and j not in out))
        ]
        below = sum(math.exp(dot(views[i], views[j]) / tau) for j in counted)
        targets = [j for j in counted if classes[j] == classes[i]]
        total -= sum(dot(views[i], views[p]) / tau - math.log(below) for p in targets) / len(targets)
    return total / (2 * n)


def cross_entropy(x, y, weights, biases, labels) -> float:
    total = 0.0
    for row, label in zip(x + y, labels + labels, strict=True):
        scores = [dot(w, row) + b for w, b in zip(weights, biases, strict=True)]
        total -= scores[label] - math.log(sum(map(math.exp, scores)))
    return total / len(x + y)


def joint(x, y, tau, diagonal, positions, ids, guide=None) -> float:
    total, counted = 0.0, 0
    for i, a in enumerate(x):
        near = [j for j in range(len(x)) if abs(positions[i] - positions[j]) == 1]
        scores = [math.exp(dot(a, b) / tau) for b in y]
        if diagonal == "zero":
            scores[i] = 1.0
        kin = {ids[i], *(ids[j] for j in near)}
        for j in range(len(x)):
            false = guide and guide.leaves_out(guide.sides[0][i], guide.sides[1][j], *(guide.sides[1][p] for p in near))
            if (j == i and diagonal == "out") or (j != i and j not in near and (ids[j] in kin or false)):
                scores[j] = 0.0
        if near:
            total -= sum(math.log(scores[j] / sum(scores)) for j in near) / len(near)
            counted += 1
    return total / counted


def cpc(x, y, maps, positions=None, guide=None) -> float:
    n, losses = len(x), []
    for k, matrix in enumerate(maps, start=1):
        terms = []
        for i in range(n):
            target = i if positions is None else next((j for j in range(n) if positions[j] == positions[i] + k), None)
            if target is None:
                continue
            moved = [dot(row, x[i]) for row in matrix]
            candidates = [j for j in range(n) if positions is None or j != i]
            if guide:
                a, b = guide.sides
                candidates = [j for j in candidates if j == target or not guide.leaves_out(a[i], b[j], b[target])]
            terms.append(pick(dot(y[target], moved), [dot(y[j], moved) for j in candidates if j != target]))
        losses.append(sum(terms) / len(terms))
    return sum(losses) / len(losses)


def align(x, y, alpha) -> float:
    return sum(math.dist(a, b) ** alpha for a, b in zip(x, y, strict=True)) / len(x)


def uniform(x, t, ids=None) -> float:
    apart = [(a, b) for (i, a), (j, b) in itertools.combinations(enumerate(x), 2) if not ids or ids[i] != ids[j]]
    return math.log(sum(math.exp(-t * math.dist(a, b) ** 2) for a, b in apart) / len(apart))


def simple(x, y, weight, ids=None, keep=None, guide=None) -> float:
    """L_simple; ``keep``: how many of so many negatives count, the nearest."""
    total = 0.0
    for i in range(len(x)):
        kin = set(ids[i][:2]) if ids else set()
        out = guide.of_pair(i, 0, guide.sides[1]) if guide else set()
        near = sorted(others(i, x, y, 1.0, kin, [row[1] for row in ids] if ids else range(len(x)), out), reverse=True)
        near = near[: keep(len(near))] if keep else near
        total += (weight * sum(near) / len(near) if near else 0) - dot(x[i], y[i])
    return total / len(x)


def hard(x, y, tau, keep, guide=None) -> float:
    total = 0.0
    for i in range(len(x)):
        out = guide.of_pair(i, 0, guide.sides[1]) if guide else set()
        near = sorted((dot(x[i], y[j]) / tau for j in range(len(x)) if j != i and j not in out), reverse=True)
        total += pick(dot(x[i], y[i]) / tau, near[: keep(len(near))])
    return total / len(x)


def standardised(x: Rows) -> Rows:
    n = len(x)
    means = [sum(column) / n for column in zip(*x, strict=True)]
    spreads = [
        math.sqrt(sum((v - m) ** 2 for v in column) / n + 1e-5)
        for column, m in zip(zip(*x, strict=True), means, strict=True)
    ]
    return [[(v - m) / s for v, m, s in zip(row, means, spreads, strict=True)] for row in x]


def barlow(x: Rows, y: Rows, weight: float) -> float:
    a, b, d = standardised(x), standardised(y), len(x[0])
    total = 0.0
    for p in range(d):
        for q in range(d):
            c = sum(u[p] * v[q] for u, v in zip(a, b, strict=True)) / len(x)
            total += (1 - c) ** 2 if p == q else weight * c**2
    return total


def vicreg(x: Rows, y: Rows, invariance: float, variance: float, covariance: float) -> float:
    n, d = len(x), len(x[0])
    total = invariance * sum(math.dist(a, b) ** 2 for a, b in zip(x, y, strict=True)) / (n * d)
    for side in (x, y):
        means = [sum(column) / n for column in zip(*side, strict=True)]
        for p in range(d):
            for q in range(d):
                c = sum((row[p] - means[p]) * (row[q] - means[q]) for row in side) / (n - 1)
                if p == q:
                    total += variance / 2 * max(0, 1 - math.sqrt(c + 1e-4)) / d
                else:
                    total += covariance * c**2 / d
    return total


def distill(views: list[Rows], teachers: list[Rows], loss: str, weights=None, biases=None) -> float:
    """Mean distance of each view's rows, seen through a linear map, from the teacher's."""
    total, counted = 0.0, 0
    for view, teacher in zip(views, teachers, strict=True):
        for row, target in zip(view, teacher, strict=True):
            mapped = [dot(w, row) + b for w, b in zip(weights, biases, strict=True)] if weights else row
            if loss == "mse":
                total += sum((p - q) ** 2 for p, q in zip(mapped, target, strict=True)) / len(target)
            else:
                total += 1 - dot(mapped, target) / math.sqrt(dot(mapped, mapped) * dot(target, target))
            counted += 1
    return total / counted


def distill_similarity(views: list[Rows], teachers: list[Rows], tau: float, teacher_tau: float, ids=None) -> float:
    n, total = len(views[0]), 0.0
    for a, b in ((0, 1), (1, 0)):
        for i in range(n):
            candidates = [j for j in range(n) if j == i or not ids or ids[j][b] not in ids[i][:2]]
            scores = [
                [math.exp(dot(rows[a][i], rows[b][j]) / t) for j in candidates]
                for rows, t in ((teachers, teacher_tau), (views, tau))
            ]
            p, q = ([s / sum(of) for s in of] for of in scores)
            total += sum(u * math.log(u / v) for u, v in zip(p, q, strict=True))
    return total / (2 * n)
