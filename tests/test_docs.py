"""The site covers what there is, and its guides run."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from trellis.index import public_names

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module", autouse=True)
def _docs_on_path():
    pytest.importorskip("matplotlib")
    sys.path.insert(0, str(DOCS))
    yield
    sys.path.remove(str(DOCS))


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    import generate

    return generate.pages()


def test_every_family_of_configs_has_a_page(pages: dict[str, str]) -> None:
    families = {path.parent.name for path in (ROOT / "configs").glob("*/*.yaml")} - {"trainer"}
    for family in families:
        page = pages[f"families/{family}.rst"]
        assert page.splitlines()[1].startswith("==="), "a page has a title"
        assert family in pages["families/index.rst"].split()
        for path in (ROOT / "configs" / family).glob("*.yaml"):
            assert f"trellis fit --config {family}/{path.stem}\n" in page
            assert f"<summary>{family}/{path.name}</summary>" in page


def test_every_ledger_row_is_on_its_family_page_and_among_the_results(
    pages: dict[str, str],
) -> None:
    rows = yaml.safe_load((ROOT / "configs" / "ledger.yaml").read_text(encoding="utf-8"))
    assert rows
    for name, row in rows.items():
        page = pages[f"families/{row['config'].partition('/')[0]}.rst"]
        assert f"``{name}``" in page
        assert f"trellis reproduce {name}\n" in page
        assert f"``{name}``" in pages["results.rst"]


def test_likelihoods_of_different_kinds_stand_side_by_side_best_first() -> None:
    import ladder

    found = ladder.rungs()
    binary = [rung for rung in found if rung.data == "MNIST, binary"]
    assert len({rung.cells[1] for rung in binary}) >= 3
    assert [rung.nats for rung in binary] == sorted(rung.nats for rung in binary)
    for rung in binary:  # in both units
        nats, bits = float(rung.cells[2]), float(rung.cells[3])
        assert bits == pytest.approx(nats / 784 / 0.6931, abs=1e-3)
    estimators = {rung.cells[0]: rung.cells[4] for rung in found}
    assert estimators["``made-mnist``"] == "exact"
    assert estimators["``vae-mnist-static``"] == "importance sampling, 1000 samples"
    assert estimators["``diffusion-moons``"] == "probability flow"
    assert estimators["``rbm-nltcs``"] == "Enumeration"
    page = ladder.ladder_page()
    assert all(rung.cells[0] in page for rung in found)


@pytest.mark.long
def test_pages_are_written_with_their_pictures_and_once(
    pages: dict[str, str], tmp_path: Path
) -> None:
    import generate

    generate.write(tmp_path)
    written = {path.relative_to(tmp_path).as_posix(): path for path in tmp_path.rglob("*.rst")}
    assert set(written) == set(pages)
    for family in re.findall(r"^\.\. figure:: (\S+)$", "\n".join(pages.values()), re.MULTILINE):
        assert "<svg" in (tmp_path / "families" / family).read_text(encoding="utf-8")
    before = {name: path.stat().st_mtime_ns for name, path in written.items()}
    generate.write(tmp_path)
    assert {name: path.stat().st_mtime_ns for name, path in written.items()} == before


def test_a_row_says_what_was_published_and_measured_and_how_far_to_trust_it(
    pages: dict[str, str],
) -> None:
    _, row = pages["results.rst"].split("``gcn-cora``")
    cells = [line.strip(" -") for line in row.partition("\n   * -")[0].splitlines()]
    assert cells[1:6] == ["``test/accuracy``", "81.5", "81.76 ± 0.67 (20 runs)", "confirmed",
                          "published"]  # fmt: skip
    _, row = pages["results.rst"].split("``linear-digits``")
    assert row.split("\n  ")[5].strip(" -") == "analytic"


def test_every_public_name_is_in_the_reference(pages: dict[str, str]) -> None:
    for name, path in public_names().items():
        package = path.rpartition(".")[0]
        directives = re.findall(r"^\.\. auto(\w+):: (\S+)$", pages[f"api/{package}.rst"], re.M)
        assert path in {found for _, found in directives}, name


def test_a_family_page_tells_formula_and_source_but_no_arguments(pages: dict[str, str]) -> None:
    part = pages["families/graph.rst"].split(":class:`~trellis.networks.graph.GAT`")[1]
    part = part.partition(":class:`~")[0]
    assert r".. math:: \alpha_{ij} = \mathrm{softmax}_j" in part
    assert ":Source: Velickovic et al. 2018" in part
    assert "num_heads" not in part


def test_a_class_is_documented_with_the_arguments_of_its_bases() -> None:
    import docstrings

    lines = docstrings.with_options(
        "trellis.networks.graph.GAT", ["GAT.", "", "Args:", "    v2: x.", "Source: y."]
    )
    told = [line.split()[0] for line in lines if line.startswith("    ")]
    assert {"in_channels", "num_layers", "v2"} <= set(told)
    assert "    num_layers (int = 2): convolutions, at least 1." in lines
    assert lines[-1] == "Source: y."
    assert len(told) == len(set(told))


def test_a_signature_shows_defaults_as_they_are_written() -> None:
    import docstrings

    assert docstrings.signature("trellis.networks.graph.GCN") == (
        "(in_channels, out_channels, hidden_channels=16, num_layers=2, dropout=0.5)"
    )
    assert "optimizer=torch.optim.RMSprop" in str(
        docstrings.signature("trellis.lightning_modules.rl.A2C")
    )
    assert docstrings.signature("torch.nn.Linear") is None


def test_fields_stand_beside_the_arguments() -> None:
    import docstrings

    text = ["One.", "", "Args:", "    x: it.", "Shape:", "    x ``[N]`` -> ``[]``",
            "Source: a book,", "page 2.", "", "Raises:", "    ValueError: no."]  # fmt: skip
    assert docstrings.fields(text) == [
        "One.", "", "Args:", "    x: it.", "", ":Shape:", "    x ``[N]`` -> ``[]``", "",
        ":Source: a book,", "    page 2.", "", "Raises:", "    ValueError: no.",
    ]  # fmt: skip


def test_a_guide_runs_and_shows_what_it_prints() -> None:
    from execute import executed

    before = Path.cwd()
    guide = "`lab.py`:\n\n```python\nX = 41\n```\n\n```python\nimport lab\nprint(lab.X + 1)\n```\n"
    text = executed(guide + "\n```\ntrellis --version\n```\n\n```console\n$ rm -rf /\n```\n", "g")
    outputs = re.findall(r":class: output\n\n(.*?)\n```", text, re.DOTALL)
    import trellis

    assert outputs == ["42", trellis.__version__]
    assert Path.cwd() == before
    assert "lab" not in sys.modules


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("```python\n1 / 0\n```", "guide, line 3: division by zero"),
        ("```\ntrellis fti\n```", "(?s)guide, line 3: trellis fti: .*did you mean fit"),
    ],
)
def test_a_guide_that_fails_is_named_with_its_line(block: str, message: str) -> None:
    from execute import executed

    with pytest.raises(RuntimeError, match=message):
        executed(f"# Title\n\n{block}\n", "guide")


def test_every_page_is_in_the_contents() -> None:
    contents = (DOCS / "guides" / "index.md").read_text(encoding="utf-8").splitlines()
    for path in (*DOCS.glob("*.md"), *(DOCS / "guides").glob("*.md")):
        entry = path.stem if path.parent != DOCS else f"../{path.stem}"
        assert path.stem == "index" or entry in contents, path


@pytest.mark.long
@pytest.mark.skipif(find_spec("furo") is None, reason="needs the extra docs")
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    words = ["-W", "--keep-going", "-q", "-E", "-d", str(tmp_path / "doctrees"), str(DOCS)]
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *words, str(tmp_path / "site")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    assert "<math" in (tmp_path / "site" / "families" / "graph.html").read_text(encoding="utf-8")
