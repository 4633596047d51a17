"""The types that a skops file may build beside those that skops trusts itself. Never the list that a file asks for."""

TRUSTED_TYPES = [
    "numpy.dtype",
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
]
