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


def others(i: int, anchors: Rows, candidates: Rows, tau: float, kin, ids, itself=None) -> list[float]:
    """Scores of anchor i with all candidates but ``itself`` and copies of what it is kin to."""
    return [
        dot(anchors[i], row) / tau
        for j, row in enumerate(candidates)
        if j != (i if itself is None else itself) and ids[j] not in kin
    ]


def contrast(x, y, tau=0.05, symmetric=False, same_side=False, decoupled=False, ids=None, hard=None) -> float:
    """InfoNCE and its kin, of rows as they are; ``hard``: each pair's hard negatives, and their log-weight."""
    n, (hard, weight) = len(x), hard or ((), 0.0)
    ids = ids or [[i, n + i, *(-1 for _ in (hard[i] if hard else ()))] for i in range(n)]
    total, counted = 0.0, 0
    for a, b, side in ((x, y, 0), (y, x, 1)) if symmetric else ((x, y, 0),):
        for i in range(n):
            kin, right = set(ids[i][:2]), dot(a[i], b[i]) / tau
            wrong = others(i, a, b, tau, kin, [row[1 - side] for row in ids])
            if same_side:
                wrong += others(i, a, a, tau, kin, [row[side] for row in ids])
            for j, rows in enumerate(hard):
                bonus = weight if i == j else 0
                wrong += [dot(a[i], row) / tau + bonus for k, row in enumerate(rows) if ids[j][2 + k] not in kin]
            if decoupled and wrong:
                total, counted = total + math.log(sum(map(math.exp, wrong))) - right, counted + 1
            elif not decoupled:
                total, counted = total + pick(right, wrong), counted + 1
    return total / max(1, counted)


def supcon(x, y, tau, labels, ids=None) -> float:
    n = len(x)
    views, classes = x + y, labels + labels
    names = [row[0] for row in ids] + [row[1] for row in ids] if ids else list(range(2 * n))
    total = 0.0
    for i in range(2 * n):
        kin = set(ids[i % n]) if ids else set()
        counted = [j for j in range(2 * n) if j != i and (classes[j] == classes[i] or names[j] not in kin)]
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


def joint(x, y, tau, diagonal, positions, ids) -> float:
    total, counted = 0.0, 0
    for i, a in enumerate(x):
        near = [j for j in range(len(x)) if abs(positions[i] - positions[j]) == 1]
        scores = [math.exp(dot(a, b) / tau) for b in y]
        if diagonal == "zero":
            scores[i] = 1.0
        kin = {ids[i], *(ids[j] for j in near)}
        for j in range(len(x)):
            if (j == i and diagonal == "out") or (j != i and j not in near and ids[j] in kin):
                scores[j] = 0.0
        if near:
            total -= sum(math.log(scores[j] / sum(scores)) for j in near) / len(near)
            counted += 1
    return total / counted


def cpc(x, y, maps, positions=None) -> float:
    n, losses = len(x), []
    for k, matrix in enumerate(maps, start=1):
        terms = []
        for i in range(n):
            target = i if positions is None else next((j for j in range(n) if positions[j] == positions[i] + k), None)
            if target is None:
                continue
            moved = [dot(row, x[i]) for row in matrix]
            candidates = [j for j in range(n) if positions is None or j != i]
            terms.append(pick(dot(y[target], moved), [dot(y[j], moved) for j in candidates if j != target]))
        losses.append(sum(terms) / len(terms))
    return sum(losses) / len(losses)


def align(x, y, alpha) -> float:
    return sum(math.dist(a, b) ** alpha for a, b in zip(x, y, strict=True)) / len(x)


def uniform(x, t, ids=None) -> float:
    apart = [(a, b) for (i, a), (j, b) in itertools.combinations(enumerate(x), 2) if not ids or ids[i] != ids[j]]
    return math.log(sum(math.exp(-t * math.dist(a, b) ** 2) for a, b in apart) / len(apart))


def simple(x, y, weight, ids=None, keep=None) -> float:
    """L_simple; ``keep``: how many of so many negatives count, the nearest."""
    total = 0.0
    for i in range(len(x)):
        kin = set(ids[i][:2]) if ids else set()
        near = sorted(others(i, x, y, 1.0, kin, [row[1] for row in ids] if ids else range(len(x))), reverse=True)
        near = near[: keep(len(near))] if keep else near
        total += (weight * sum(near) / len(near) if near else 0) - dot(x[i], y[i])
    return total / len(x)


def hard(x, y, tau, keep) -> float:
    total = 0.0
    for i in range(len(x)):
        near = sorted((dot(x[i], y[j]) / tau for j in range(len(x)) if j != i), reverse=True)
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
