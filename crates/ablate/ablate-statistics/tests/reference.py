"""Prints what tests/agreement.rs expects, from scipy, statsmodels and numpy: python3 reference.py"""

import itertools

import numpy as np
import scipy
from scipy import optimize, stats

# Student's sleep data (1908): extra hours of sleep.
first = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
second = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
difference = second - first
print("numpy", np.__version__, "scipy", scipy.__version__)
print("iqm", stats.trim_mean(second, 0.25), stats.trim_mean(first, 0.25), stats.trim_mean(difference, 0.25))
print("sd", difference.std(ddof=1), "median", np.median(difference))
def signed_root(d):
    return np.sign(d) * np.sqrt(np.abs(d))


test = stats.permutation_test(
    (difference,), lambda d, axis: signed_root(d).sum(axis=axis), permutation_type="samples", n_resamples=np.inf, vectorized=True
)
print("sign flip p", test.pvalue, "T", signed_root(difference).sum() / np.sqrt(np.abs(difference).sum()))
print("probability of improvement", stats.mannwhitneyu(second, first).statistic / 100)
print("sign test 9 of 10", stats.binomtest(9, 10).pvalue, "2 of 7", stats.binomtest(2, 7).pvalue)
# scipy has no Holm; its definition: the largest of the p-values below, each times the number of those not below it.
p = np.array([0.001, 0.04, 0.03, 0.2, 0.011])
order = np.argsort(p)
holm = np.empty(5)
holm[order] = np.minimum(1, np.maximum.accumulate((5 - np.arange(5)) * p[order]))
print("holm", holm.tolist())
survival = stats.ecdf(stats.CensoredData.right_censored([120, 340, 340, 500, 800, 1000], [0, 0, 1, 0, 0, 1])).sf
print("survival", survival.quantiles.tolist(), survival.probabilities.tolist())
# Shapley values by their definition, over all orders.
v = {0: 1.0, 1: 3.5, 2: 0.5, 3: 4.0, 4: 2.0, 5: 7.0, 6: 1.5, 7: 9.0}
shares = np.zeros(3)
for order in itertools.permutations(range(3)):
    mask = 0
    for i in order:
        shares[i] += (v[mask | 1 << i] - v[mask]) / 6
        mask |= 1 << i
print("shapley", shares.tolist())


# Step-down max-T over all joint sign patterns.
arms = np.array([[0.8, 1.1, 0.3, 0.9, 1.6, 0.2, 0.7, 1.2], [0.4, -0.3, 0.9, 1.1, 0.2, 0.8, -0.1, 0.6],
                 [-0.5, 0.4, 0.1, -0.2, 0.3, -0.6, 0.5, -0.1]])
signs = np.array(list(itertools.product([1, -1], repeat=8)))
t = np.abs(signs @ signed_root(arms).T) / np.sqrt(np.abs(arms).sum(1))
order = np.argsort(-t[0])
joint = np.empty(3)
for rank, arm in enumerate(order):
    joint[arm] = (t[:, order[rank:]].max(1) >= t[0, arm] - 1e-9).mean()
joint[order] = np.maximum.accumulate(joint[order])
print("joint", joint.tolist())


# Newcombe's (2006) method 5.
def newcombe(value, n):
    def far(p):
        error = np.sqrt(p * (1 - p) * (1 + (n - 1) * ((1 - p) / (2 - p) + p / (1 + p)))) / n
        return abs(value - p) - stats.norm.ppf(0.975) * error

    return [optimize.brentq(far, 1e-9, value), optimize.brentq(far, value, 1 - 1e-9)]


print("newcombe", newcombe(0.745, 10))
