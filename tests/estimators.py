"""The estimators that failwb loads, fitted and looked into: what a fitted pipeline holds is not what its code says.

`python tests/estimators.py` prints the full names of all types inside: what `failwb.models.skops` has to allow.
"""

import warnings

import numpy as np
import pandas as pd
from sklearn import (
    calibration,
    compose,
    discriminant_analysis,
    dummy,
    ensemble,
    feature_selection,
    impute,
    linear_model,
    multiclass,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    svm,
    tree,
)
from sklearn.decomposition import PCA, TruncatedSVD

ROWS = 160


def table(seed: int = 0) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    "A table with numbers, whole numbers, categories and gaps, and a target for each task."
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(
        {
            "amount": rng.lognormal(3, 1, ROWS),
            "age": rng.integers(18, 90, ROWS).astype("float64"),
            "region": rng.choice(["north", "south", "west"], ROWS),
            "housing": rng.choice(["own", "rent"], ROWS),
        }
    )
    amount = X["amount"].to_numpy(copy=True)
    X.loc[X.index % 17 == 0, "amount"] = np.nan
    target = np.log(amount) + 0.02 * X["age"].to_numpy() + (X["region"] == "west").to_numpy() + rng.normal(0, 0.3, ROWS)
    cuts = np.quantile(target, [0.33, 0.67])
    return X, {
        "binary": (target > np.median(target)).astype(int),
        "multiclass": np.array(["low", "middle", "high"])[np.digitize(target, cuts)],
        "regression": np.exp(target / 2),
    }


NUMBERS, TEXTS = ["amount", "age"], ["region", "housing"]


def columns(number=None, text=None):
    "Preprocessing that leaves numbers without gaps."
    number = number or pipeline.make_pipeline(impute.SimpleImputer(), preprocessing.StandardScaler())
    return compose.ColumnTransformer(
        [
            ("number", number, NUMBERS),
            ("text", text or preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=False), TEXTS),
        ]
    )


def filled(step):
    return pipeline.make_pipeline(impute.SimpleImputer(), step)


FUNCTIONS = (
    np.absolute,
    np.log1p,
    np.sqrt,
    np.cbrt,
    np.square,
    np.arcsinh,
    np.negative,
    np.tanh,
    np.exp,
    np.expm1,
    np.log,
    np.log10,
    np.log2,
    np.reciprocal,
    np.sign,
)
N = {"n_estimators": 4, "random_state": 0}
BOTH = ("binary", "multiclass")
ALL = (*BOTH, "regression")

LAST = {  # last step of a pipeline -> tasks
    "hist": [
        (BOTH, ensemble.HistGradientBoostingClassifier(max_iter=4)),
        (("regression",), ensemble.HistGradientBoostingRegressor(max_iter=4)),
    ],
    "hist_stopped": [(BOTH, ensemble.HistGradientBoostingClassifier(max_iter=4, early_stopping=True, random_state=0))],
    "hist_absolute": [(("regression",), ensemble.HistGradientBoostingRegressor(loss="absolute_error", max_iter=4))],
    "hist_poisson": [(("regression",), ensemble.HistGradientBoostingRegressor(loss="poisson", max_iter=4))],
    "hist_gamma": [(("regression",), ensemble.HistGradientBoostingRegressor(loss="gamma", max_iter=4))],
    "hist_quantile": [
        (("regression",), ensemble.HistGradientBoostingRegressor(loss="quantile", quantile=0.5, max_iter=4))
    ],
    "forest": [(BOTH, ensemble.RandomForestClassifier(**N)), (("regression",), ensemble.RandomForestRegressor(**N))],
    "forest_oob": [(BOTH, ensemble.RandomForestClassifier(30, oob_score=True, random_state=0))],
    "extra": [(BOTH, ensemble.ExtraTreesClassifier(**N)), (("regression",), ensemble.ExtraTreesRegressor(**N))],
    "boosting": [
        (BOTH, ensemble.GradientBoostingClassifier(**N)),
        (("regression",), ensemble.GradientBoostingRegressor(**N)),
    ],
    "boosting_exponential": [(("binary",), ensemble.GradientBoostingClassifier(loss="exponential", **N))],
    "boosting_huber": [(("regression",), ensemble.GradientBoostingRegressor(loss="huber", **N))],
    "boosting_absolute": [(("regression",), ensemble.GradientBoostingRegressor(loss="absolute_error", **N))],
    "boosting_quantile": [(("regression",), ensemble.GradientBoostingRegressor(loss="quantile", **N))],
    "ada": [(BOTH, ensemble.AdaBoostClassifier(**N)), (("regression",), ensemble.AdaBoostRegressor(**N))],
    "bagging": [(BOTH, ensemble.BaggingClassifier(**N)), (("regression",), ensemble.BaggingRegressor(**N))],
    "isolated_tree": [
        (BOTH, tree.DecisionTreeClassifier(max_depth=4, random_state=0)),
        (("regression",), tree.DecisionTreeRegressor(max_depth=4, random_state=0)),
    ],
    "extra_tree": [
        (BOTH, tree.ExtraTreeClassifier(random_state=0)),
        (("regression",), tree.ExtraTreeRegressor(random_state=0)),
    ],
    "logistic": [(BOTH, linear_model.LogisticRegression())],
    "logistic_cv": [
        (BOTH, linear_model.LogisticRegressionCV(Cs=2, cv=2, use_legacy_attributes=False, scoring="accuracy"))
    ],
    "linear": [(("regression",), linear_model.LinearRegression())],
    "ridge": [(("regression",), linear_model.Ridge())],
    "ridge_cv": [(("regression",), linear_model.RidgeCV())],
    "lasso": [(("regression",), linear_model.Lasso())],
    "lasso_cv": [(("regression",), linear_model.LassoCV(cv=2, random_state=0))],
    "elastic": [(("regression",), linear_model.ElasticNet())],
    "elastic_cv": [(("regression",), linear_model.ElasticNetCV(cv=2, random_state=0))],
    "huber": [(("regression",), linear_model.HuberRegressor(max_iter=1000))],
    "bayesian": [(("regression",), linear_model.BayesianRidge())],
    "quantile": [(("regression",), linear_model.QuantileRegressor())],
    "poisson": [(("regression",), linear_model.PoissonRegressor())],
    "gamma": [(("regression",), linear_model.GammaRegressor())],
    "tweedie": [(("regression",), linear_model.TweedieRegressor())],
    "sgd": [
        (BOTH, linear_model.SGDClassifier(loss="log_loss", random_state=0)),
        (("regression",), linear_model.SGDRegressor(random_state=0)),
    ],
    "sgd_modified_huber": [(BOTH, linear_model.SGDClassifier(loss="modified_huber", random_state=0))],
    "sgd_huber": [(("regression",), linear_model.SGDRegressor(loss="huber", random_state=0))],
    "sgd_insensitive": [(("regression",), linear_model.SGDRegressor(loss="epsilon_insensitive", random_state=0))],
    "svr": [(("regression",), svm.SVR())],
    "linear_svr": [(("regression",), svm.LinearSVR(random_state=0))],
    "nu_svr": [(("regression",), svm.NuSVR())],
    "knn": [(BOTH, neighbors.KNeighborsClassifier()), (("regression",), neighbors.KNeighborsRegressor())],
    "knn_ball": [(BOTH, neighbors.KNeighborsClassifier(algorithm="ball_tree", metric="manhattan"))],
    "knn_kd": [(("regression",), neighbors.KNeighborsRegressor(algorithm="kd_tree"))],
    "mlp": [
        (BOTH, neural_network.MLPClassifier(hidden_layer_sizes=(5,), max_iter=20, random_state=0)),
        (("regression",), neural_network.MLPRegressor(hidden_layer_sizes=(5,), max_iter=20, random_state=0)),
    ],
    "mlp_sgd": [
        (BOTH, neural_network.MLPClassifier(hidden_layer_sizes=(5,), solver="sgd", max_iter=20, random_state=0))
    ],
    "mlp_lbfgs": [
        (
            ("regression",),
            neural_network.MLPRegressor(hidden_layer_sizes=(5,), solver="lbfgs", max_iter=20, random_state=0),
        )
    ],
    "naive": [(BOTH, naive_bayes.GaussianNB())],
    "bernoulli": [(BOTH, naive_bayes.BernoulliNB())],
    "discriminant": [(BOTH, discriminant_analysis.LinearDiscriminantAnalysis())],
    "quadratic": [(BOTH, discriminant_analysis.QuadraticDiscriminantAnalysis(reg_param=0.5))],
    "dummy": [(BOTH, dummy.DummyClassifier(strategy="prior")), (("regression",), dummy.DummyRegressor())],
    "calibrated_sigmoid": [(BOTH, calibration.CalibratedClassifierCV(svm.SVC(), cv=2))],
    "calibrated_isotonic": [(BOTH, calibration.CalibratedClassifierCV(svm.LinearSVC(), method="isotonic", cv=2))],
    "calibrated_temperature": [
        (BOTH, calibration.CalibratedClassifierCV(linear_model.LogisticRegression(), method="temperature", cv=2))
    ],
    "calibrated_frozen": [
        (BOTH, calibration.CalibratedClassifierCV(linear_model.RidgeClassifier(), cv=2, ensemble=False))
    ],
    "one_vs_rest": [(BOTH, multiclass.OneVsRestClassifier(linear_model.LogisticRegression()))],
    "voting": [
        (
            BOTH,
            ensemble.VotingClassifier(
                [("a", linear_model.LogisticRegression()), ("b", tree.DecisionTreeClassifier(max_depth=2))],
                voting="soft",
            ),
        ),
        (
            ("regression",),
            ensemble.VotingRegressor([("a", linear_model.Ridge()), ("b", tree.DecisionTreeRegressor(max_depth=2))]),
        ),
    ],
    "stacking": [
        (
            BOTH,
            ensemble.StackingClassifier(
                [("a", linear_model.LogisticRegression()), ("b", naive_bayes.GaussianNB())], cv=2
            ),
        ),
        (
            ("regression",),
            ensemble.StackingRegressor(
                [("a", linear_model.Ridge()), ("b", tree.DecisionTreeRegressor(max_depth=2))], cv=2
            ),
        ),
    ],
    "transformed_target": [
        (
            ("regression",),
            compose.TransformedTargetRegressor(linear_model.Ridge(), func=np.log1p, inverse_func=np.expm1),
        )
    ],
    "scaled_target": [
        (
            ("regression",),
            compose.TransformedTargetRegressor(
                linear_model.Ridge(),
                transformer=preprocessing.QuantileTransformer(n_quantiles=10, output_distribution="normal"),
            ),
        )
    ],
}

FIRST = {  # preprocessing, before a logistic regression or a ridge
    "min_max": columns(filled(preprocessing.MinMaxScaler())),
    "robust": columns(filled(preprocessing.RobustScaler())),
    "max_abs": columns(filled(preprocessing.MaxAbsScaler())),
    "normal": columns(filled(preprocessing.Normalizer())),
    "power": columns(filled(preprocessing.PowerTransformer())),
    "quantile": columns(filled(preprocessing.QuantileTransformer(n_quantiles=10, random_state=0))),
    "bins": columns(
        filled(preprocessing.KBinsDiscretizer(4, encode="onehot-dense", quantile_method="averaged_inverted_cdf"))
    ),
    "spline": columns(filled(preprocessing.SplineTransformer(4))),
    "polynomial": columns(filled(preprocessing.PolynomialFeatures(2))),
    "binarizer": columns(filled(preprocessing.Binarizer())),
    "indicator": columns(impute.SimpleImputer(add_indicator=True)),
    "neighbours": columns(impute.KNNImputer(n_neighbors=2)),
    "ordinal": columns(text=preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)),
    "target": columns(text=preprocessing.TargetEncoder(cv=2, random_state=0)),
    "rare": columns(
        text=preprocessing.OneHotEncoder(
            min_frequency=0.3, handle_unknown="infrequent_if_exist", drop="first", sparse_output=False
        )
    ),
    "sparse": columns(text=preprocessing.OneHotEncoder(handle_unknown="ignore")),
    "constant_fill": columns(
        text=pipeline.make_pipeline(
            impute.SimpleImputer(strategy="most_frequent"), preprocessing.OneHotEncoder(sparse_output=False)
        )
    ),
    "codes": columns(
        filled(preprocessing.StandardScaler()),
        text=preprocessing.OrdinalEncoder(dtype=np.float32, handle_unknown="use_encoded_value", unknown_value=-1),
    ),
    "functions": columns(
        filled(
            pipeline.make_pipeline(
                pipeline.FeatureUnion([(f.__name__, preprocessing.FunctionTransformer(f)) for f in FUNCTIONS]),
                preprocessing.StandardScaler(),
            )
        )
    ),
    "log": columns(filled(preprocessing.FunctionTransformer(np.log1p, feature_names_out="one-to-one"))),
    "root": columns(filled(preprocessing.FunctionTransformer(np.sqrt, inverse_func=np.square))),
    "union": columns(filled(pipeline.FeatureUnion([("a", preprocessing.StandardScaler()), ("b", PCA(1))]))),
    "svd": pipeline.make_pipeline(columns(), TruncatedSVD(2, random_state=0)),
    "variance": pipeline.make_pipeline(columns(), feature_selection.VarianceThreshold()),
    "chosen": pipeline.make_pipeline(
        columns(), feature_selection.SelectFromModel(tree.DecisionTreeClassifier(max_depth=2, random_state=0))
    ),
    "selected": compose.make_column_transformer(
        (filled(preprocessing.StandardScaler()), compose.make_column_selector(dtype_include="number")), remainder="drop"
    ),
    "remainder": compose.make_column_transformer(
        (preprocessing.OneHotEncoder(sparse_output=False), TEXTS),
        (impute.SimpleImputer(), ["amount"]),
        remainder="passthrough",
    ),
    "plain_numbers": compose.ColumnTransformer([("number", impute.SimpleImputer(), NUMBERS)]),
}


def trees():
    "Failwb's own recipe: categories become codes, and the trees know which columns are codes."
    codes = preprocessing.OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan
    )
    first = compose.ColumnTransformer([("number", "passthrough", NUMBERS), ("text", codes, TEXTS)])
    return pipeline.Pipeline(
        [
            ("columns", first),
            ("trees", ensemble.HistGradientBoostingClassifier(max_iter=4, categorical_features=[2, 3])),
        ]
    )


def cases() -> list[tuple[str, str, object]]:
    "All unfitted pipelines: name, task, pipeline."
    found = [
        (f"{n}-{task}", task, pipeline.make_pipeline(columns(), last))
        for n, kinds in LAST.items()
        for tasks, last in kinds
        for task in tasks
    ]
    found += [
        (f"{n}-binary", "binary", pipeline.make_pipeline(first, linear_model.LogisticRegression(max_iter=500)))
        for n, first in FIRST.items()
    ]
    found.append(("own-recipe-binary", "binary", trees()))
    return found


def fitted(task: str, model):
    "Fit `model` on the table."
    from sklearn.base import clone

    X, targets = table()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a few learners stop early on purpose
        return clone(model).fit(X, targets[task])


def names() -> list[str]:
    "Full names of all types and functions inside the fitted pipelines."
    from failwb.models.skops import dumps_stable, type_names

    return sorted(set().union(*(type_names(dumps_stable(fitted(task, model))) for _, task, model in cases())))


if __name__ == "__main__":
    print("\n".join(names()))
