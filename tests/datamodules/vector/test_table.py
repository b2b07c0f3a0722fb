"""Tables of one's own: formats, encodings beside scikit-learn's, splits, and what is refused."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learning_cases import quiet_trainer
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from trellis.datamodules.engine.division import Division
from trellis.datamodules.vector.encoding import Encoding
from trellis.datamodules.vector.table import Table
from trellis.lightning_modules.generative import GAN, Autoencoder, DensityEstimation, Variational
from trellis.lightning_modules.vector import Classification, Regression
from trellis.networks.generative import NSF

TEXT = """name,age,city,pets,income,kind
ann,31,Rome,2,10.5,yes
bob,,Oslo,0,11.0,no
cleo,45,Rome,1,,yes
dan,22,,0,9.25,no
eve,38,Bern,3,14.0,yes
finn,29,Oslo,1,12.5,no
gus,51,Rome,0,13.0,yes
"""
NUMBERS = ["age", "pets"]
ALL = Division(val_share=0.0, test_share=0.0)


def table(folder: Path, text: str = TEXT, **options: Any) -> Table:
    (folder / "people.csv").write_text(text)
    data = Table(str(folder / "people.csv"), **{"id": "name", "division": ALL, **options})
    data.setup()
    return data


def frame(text: str = TEXT):
    pandas = pytest.importorskip("pandas")
    return pandas.read_csv(io.StringIO(text))


@pytest.mark.parametrize("missing", ["mean", "indicator"])
def test_the_encoding_is_that_of_scikit_learn(tmp_path: Path, missing: str) -> None:
    data = table(tmp_path, target="kind", ignore=["income"], missing=missing)
    x, y = data.splits["train"]
    read = frame()
    ages = SimpleImputer(add_indicator=missing == "indicator")
    # The scale of what is known, as the mean is: filled-in values say nothing about it.
    known = read["age"].dropna().to_numpy()
    filled = ages.fit_transform(read[["age"]])
    filled[:, 0] = (filled[:, 0] - known.mean()) / known.std()
    city = OneHotEncoder(categories=[["Bern", "Oslo", "Rome"]], handle_unknown="ignore")
    cities = city.fit_transform(read[["city"]]).toarray()
    absent = read["city"].isna().to_numpy()[:, None]
    cities = np.hstack([cities, absent]) if missing == "indicator" else cities
    pets = StandardScaler().fit_transform(read[["pets"]])
    np.testing.assert_allclose(x, np.hstack([filled, cities, pets]), atol=1e-6)
    assert data.spec.classes == ("no", "yes")
    assert y.tolist() == [1, 0, 1, 0, 1, 0, 1]
    assert data.spec.in_channels == x.size(1)


def test_numbers_may_be_categories_and_stay_as_they_are(tmp_path: Path) -> None:
    options = {"features": ["pets", "city", "age"], "missing": "mean", "standardize": False}
    data = table(tmp_path, categories=["pets"], target="kind", **options)
    x, _ = data.splits["train"]
    transformer = ColumnTransformer(
        [("pets", OneHotEncoder(), ["pets"]),
         ("city", OneHotEncoder(categories=[["Bern", "Oslo", "Rome"]], handle_unknown="ignore"),
          ["city"]),
         ("age", make_pipeline(SimpleImputer()), ["age"])],
        sparse_threshold=0,
    )  # fmt: skip
    np.testing.assert_allclose(x, transformer.fit_transform(frame()), rtol=1e-6)


def test_real_targets_are_in_their_unit_and_rows_without_one_are_left_out(tmp_path: Path) -> None:
    data = table(tmp_path, target=["income", "pets"], features=["city"], missing="mean")
    _, y = data.splits["train"]
    known = frame().dropna(subset="income")
    np.testing.assert_allclose(y, known[["income", "pets"]], rtol=1e-6)
    spec = data.spec
    assert (spec.targets, spec.target_names, spec.out_channels) == ("real", ("income", "pets"), 2)
    np.testing.assert_allclose(spec.target_means, known[["income", "pets"]].mean(), rtol=1e-6)
    np.testing.assert_allclose(
        spec.target_scales, known[["income", "pets"]].std(ddof=0), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("values", "kind"),
    [(["a", "b", "a"], "labels"), ([1, 2, 2, 1], "labels"), ([310, 405, 180], "real"),
     ([0.5, 1.5, 2.0], "real"),     ([*range(30)], "real")],
)  # fmt: skip
def test_the_target_says_of_which_kind_it_is(tmp_path: Path, values: list[Any], kind: str) -> None:
    text = "x,y\n" + "".join(f"{number},{value}\n" for number, value in enumerate(values))
    assert table(tmp_path, text, id=None, target="y").spec.targets == kind


def test_all_formats_give_the_same(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(50, 3)), generator.integers(3, size=50)
    names = ["0", "1", "2", "3"]
    rows = np.column_stack([x, y])
    for name, separator in (("a.csv", ","), ("a.tsv", "\t"), ("bare.txt", " ")):
        header = "" if name == "bare.txt" else separator.join(f"c{n}" for n in names)
        np.savetxt(
            tmp_path / name, rows, delimiter=separator, header=header, comments="", fmt="%.17g"
        )
    np.save(tmp_path / "a.npy", rows)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    targets = {"a.csv": "c3", "a.tsv": "c3", "bare.txt": "3", "a.npy": "3", "a.npz": "y"}
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    pandas.DataFrame(dict(zip(names, rows.T, strict=True))).to_parquet(tmp_path / "a.parquet")
    found = []
    for name, target in {**targets, "a.parquet": "3"}.items():
        data = Table(str(tmp_path / name), target)
        data.setup()
        found.append(data.splits)
        assert data.spec.classes == ("0", "1", "2")
    for splits in found[1:]:
        for split, (x_split, y_split) in splits.items():
            torch.testing.assert_close(x_split, found[0][split][0])
            assert torch.equal(y_split, found[0][split][1])


def test_a_column_says_the_split(tmp_path: Path) -> None:
    text = "x,y,part\n1,a,train\n2,b,train\n9,a,test\n4,b,\n5,b,val\n"
    data = table(tmp_path, text, id=None, target="y", division=Division(column="part"))
    assert {split: len(y) for split, (_, y) in data.splits.items()} == {
        "train": 2, "val": 1, "test": 1
    }  # fmt: skip
    assert data.splits["test"][0].item() == pytest.approx((9 - 1.5) / 0.5)  # of training rows
    with pytest.raises(ValueError, match="line 4, column 'part': 'tset': give train, val, test"):
        table(tmp_path, text.replace("test", "tset"), id=None, division=Division(column="part"))


def test_examples_of_the_test_split_keep_their_names(tmp_path: Path) -> None:
    options = {"target": "kind", "features": ["pets"], "division": Division(test_share=0.4)}
    data = table(tmp_path, **options)
    pets = dict(zip(frame()["name"], frame()["pets"], strict=True))
    x, _ = data.splits["test"]
    assert len(data.test_ids) == len(x) >= 2
    column = Encoding.from_json(data.spec.columns).columns[0]
    expected = [(pets[name] - column.mean) / column.scale for name in data.test_ids]
    torch.testing.assert_close(x[:, 0], torch.tensor(expected, dtype=torch.float32))
    assert table(tmp_path, **{**options, "id": None}).test_ids[0].isdigit()


def test_the_encoding_survives_its_text(tmp_path: Path) -> None:
    data = table(tmp_path, target="kind", ignore=["income"], missing="indicator")
    encoding = Encoding.from_json(data.spec.columns)
    assert Encoding.from_json(encoding.to_json()) == encoding
    torch.testing.assert_close(encoding(data.read()), data.splits["train"][0])


def test_a_category_that_was_not_trained_on_is_no_category(tmp_path: Path) -> None:
    data = table(tmp_path, target="kind", features=["city"], missing="mean")
    (tmp_path / "new.csv").write_text("city\nParis\nOslo\n")
    with pytest.warns(UserWarning, match="column 'city': 'Paris' is not among the 3 texts"):
        loader, ids = data.inputs(str(tmp_path / "new.csv"), data.spec)
    [(x, _)] = loader
    assert x.tolist() == [[0, 0, 0], [0, 1, 0]]
    assert ids == ["0", "1"]


def test_rows_of_an_array_are_in_the_order_of_the_features(tmp_path: Path) -> None:
    data = table(tmp_path, target="kind", features=["pets", "age"], missing="mean")
    np.save(tmp_path / "new.npy", np.array([[2.0, 31.0], [0.0, 22.0]]))
    [(x, _)] = data.inputs(str(tmp_path / "new.npy"), data.spec).loader
    torch.testing.assert_close(x, data.splits["train"][0][[0, 3]])
    np.save(tmp_path / "wide.npy", np.zeros((2, 5)))
    with pytest.raises(ValueError, match="has 5 columns, but the model was trained on 2 features"):
        data.inputs(str(tmp_path / "wide.npy"), data.spec)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (TEXT, {"target": "knid"}, "there is no column target='knid'; did you mean kind?"),
        (TEXT, {"id": "nmae"}, "there is no column id='nmae'; did you mean name?"),
        (TEXT, {"ignore": ["zzz"]}, "there is no column ignore='zzz'; its columns are name, age"),
        (TEXT, {"features": ["age", "kind"], "target": "kind"}, "both name 'kind'"),
        (TEXT, {"target": "kind"}, "line 3, column 'age': the value is missing: fill it in, or"),
        (TEXT.replace("45", "old"), {"missing": "mean"},
         "line 4, column 'age': 'old' is not a finite number: mend it, or name the column in cat"),
        (TEXT.replace("45", "inf"), {"missing": "mean"}, "column 'age': 'inf' is not a finite"),
        (TEXT.replace("14.0", "high"), {"missing": "mean", "target": "income", "targets": "real"},
         "line 6, column 'income': 'high' is not a finite number: mend it, or give targets=lab"),
        (TEXT.replace("1,12.5", "12.5"), {}, "line 7: 5 cells for 6 columns"),
        (TEXT.replace("pets", "age"), {}, "two columns have the name 'age'"),
        ("name,age\n", {}, "there is no row below the header"),
        ("", {}, "is empty: give a header"),
        ("name,kind\na,b\n", {"target": "kind"}, "there is no column of features"),
        ("x,y\n1,2\n2,2\n", {"id": None, "target": "y", "targets": "labels"},
         "all labels are '2'"),
        ("x,y\n" + "".join(f"t{n},{n % 2}\n" for n in range(30)), {"id": None, "target": "y"},
         "30 training rows have 30 different texts, such as 't0': name it in ignore"),
        ("x,y,z\n1,,a\n2,,b\n", {"id": None, "target": "z"}, "column 'y': no training row has"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_place(tmp_path, text, options, message) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        table(tmp_path, text, **options)


def test_a_class_of_the_test_split_alone_is_refused(tmp_path: Path) -> None:
    text = "x,y,part\n1,a,train\n2,b,train\n3,c,test\n4,c,test\n"
    message = r"line 4, column 'y': class 'c' is in the test split, but in no training row"
    with pytest.raises(ValueError, match=message):
        table(tmp_path, text, id=None, target="y", division=Division(column="part"))


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="path=.*nothing.csv: no such file"):
        Table(str(tmp_path / "nothing.csv")).setup()
    np.save(tmp_path / "cube.npy", np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match=r"has the shape \[2, 2, 2\]: give \[N\] or \[N, C\]"):
        Table(str(tmp_path / "cube.npy")).setup()
    np.savez(tmp_path / "uneven.npz", x=np.zeros(2), y=np.zeros(3))
    with pytest.raises(ValueError, match=r"arrays of different lengths \(x 2, y 3\)"):
        Table(str(tmp_path / "uneven.npz")).setup()
    np.save(tmp_path / "code.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"code.npy cannot be read: Object arrays cannot be"):
        Table(str(tmp_path / "code.npy")).setup()
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match=r"cut.parquet cannot be read"):
        Table(str(tmp_path / "cut.parquet")).setup()


OBJECTIVES = {
    "Classification": Classification(),
    "Regression": Regression(),
    "Variational": Variational(likelihood="gaussian"),
    "DensityEstimation": DensityEstimation(NSF),
    "GAN": GAN(),
    "Autoencoder": Autoencoder(),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_of_vectors_train_on_a_table(tmp_path: Path, name: str) -> None:
    options = {"missing": "mean", "batch_size": 3, "ignore": ["city"]}
    target = "income" if name == "Regression" else "kind"
    data = table(tmp_path, target=target, division=Division(test_share=0.3), **options)
    model = OBJECTIVES[name]
    trainer = quiet_trainer(tmp_path, max_epochs=2, num_sanity_val_steps=0)
    trainer.fit(model, datamodule=data)
    [scores] = trainer.test(model, datamodule=data, verbose=False)
    assert all(np.isfinite(value) for value in scores.values())
    assert model.spec == data.spec
