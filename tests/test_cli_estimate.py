"""The command `estimate`: what it prints, what it writes, and that it writes nothing when it refuses."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from matplotlib.image import imread

import gradkernels as gk
import gradkernels.estimate.study as module
from gradkernels.bench.cli import main
from gradkernels.bench.cli.commands.estimate import estimate
from gradkernels.estimate.study import GRADIENT_KERNELS

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.command()(estimate)

QUICK = ("--draws", "30", "--batch-sizes", "1,8")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    return app(list(arguments), standalone_mode=False)


def refusal(*arguments):
    """The sentence; makes sure that the folder is as it was."""
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    with pytest.raises((ValueError, OSError)) as refused:
        run(*arguments)
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_default_reproduces_the_coursework(capsys):
    assert run(*QUICK) == 0
    words = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["theta_0", "(intercept)", "0.18694752", *["-7.0330"] * 4] in words
    assert ["theta_1", "(x)", "-0.23685427", *["-1.2066"] * 4] in words
    assert ["theta_0", "(intercept)", "0.98901153", *["-5.1731"] * 4] in words
    assert ["theta_1", "(x)", "-1.7473384", *["-2.2966"] * 4] in words
    assert ["point", "1,", "mean", "loss", "15.5923"] in words


def test_identities_are_kept_apart_from_statistical_claims(capsys):
    run(*QUICK)
    identities, claims = capsys.readouterr().out.split("STATISTICAL CLAIMS")
    identities, claims = " ".join(identities.split()), " ".join(claims.split())
    assert "linearity and holds whatever the data" in identities
    assert "Agreement proves the code" in identities
    assert identities.count("they agree") == 2
    assert "at EQUAL parameters all four ways agree, at both points" in identities
    assert "bias" not in identities
    assert "sigma / sqrt(B) * sqrt((n - B) / (n - 1)) lies in the interval at" in claims
    assert "36.28 / 7.136^2 = 0.712; below 1, so even a single row holds more gradient than noise" in claims
    assert "47.56 / 5.66^2 = 1.48; so many rows" in claims


def test_other_data_says_nothing_of_the_notebook(capsys):
    run("--data", "diabetes", "--replace", *QUICK)
    printed = capsys.readouterr().out
    assert "notebook" not in printed
    assert "theta_3 (bmi)" in printed
    assert "rows drawn with replacement" in " ".join(printed.split())
    assert "sqrt(B) lies in" in printed


def test_parameters_that_do_not_fit_on_a_page_are_cut_by_size(capsys):
    names = [f"c{i}" for i in range(30)]
    # Features 1, 2, ..., 30 of one target: the larger the feature, the larger its gradient.
    row = ",".join(str(i + 1) for i in range(30))
    Path("d.csv").write_text(f"{','.join(names)},y\n{row},1000\n{row},1001\n")
    run("--data", "d.csv", "--target", "y", "--theta", ",".join(["0"] * 31), "--draws", "30")
    printed = capsys.readouterr().out
    assert "theta_30 (c29)" in printed
    assert "theta_11 (c10)" in printed
    assert "(c9)" not in printed
    assert "... and 11 parameters with smaller gradients" in printed


def test_csv_has_a_row_per_point_and_size():
    run("--out", "new/folder/e.csv", "--draws", "30")
    rows = list(csv.DictReader(Path("new/folder/e.csv").read_text("utf-8").splitlines()))
    assert [(row["point"], row["batch_size"]) for row in rows] == [
        (point, str(size)) for point in ("point 1", "point 2") for size in (1, 2, 4, 8, 16, 32, 40)
    ]
    first = rows[0]
    assert (first["data"], first["problem"], first["n"], first["replace"]) == ("notebook", "linear", "40", "False")
    assert [float(value) for value in first["gradient"].split()] == pytest.approx([-7.0330, -1.2066], abs=5e-5)
    assert [float(value) for value in first["theta"].split()] == pytest.approx([0.18694752, -0.23685427], abs=5e-9)
    # sigma / sqrt(4) * sqrt((40 - 4) / (40 - 1)), sigma^2 = 36.277145 from the per-sample gradients by hand.
    assert float(rows[2]["theory"]) == pytest.approx((36.277144513 / 4 * 36 / 39) ** 0.5)
    assert float(first["noise_scale"]) == pytest.approx(36.277144513 / (7.033040292**2 + 1.20658441**2))
    assert float(rows[0]["standard_error_low"]) < float(rows[0]["standard_error"])
    assert float(rows[6]["standard_error"]) == 0


def test_picture_shows_both_points_in_both_panels():
    run("--plot", "e.png", *QUICK)
    pixels = (imread("e.png")[..., :3] * 255).round().astype(int)
    height, width = pixels.shape[:2]
    assert width == 1440
    for panel in (pixels[: height - 75, : width // 2], pixels[: height - 75, width // 2 :]):
        for color in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):
            assert (abs(panel - color).max(2) <= 1).sum() > 500


@pytest.mark.parametrize("sizes", ["40", "1", "1,40", "1:40:12"])
def test_picture_of_any_sizes_at_the_optimum(sizes):
    assert run("--plot", "e.svg", "--theta", "3.950706402319452,2.6824689259670578", "--batch-sizes", sizes) == 0
    assert Path("e.svg").read_text().startswith("<?xml")


def test_the_command_line_knows_it(capsys):
    assert main(["estimate", "--theta", "1,2", *QUICK]) == 0
    assert main(["estimate", "--theta", "1"]) == 2
    assert capsys.readouterr().err == (
        "gradkernels: --theta '1': linear on notebook takes 2 finite numbers, the intercept first if there is one\n"
    )


def test_theta_may_start_with_a_minus(capsys):
    assert run("--theta", "-1,2e0", *QUICK) == 0
    words = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["theta_0", "(intercept)", "-1"] in [line[:3] for line in words]
    assert ["theta_1", "(x)", "2"] in [line[:3] for line in words]


def test_without_intercept(capsys):
    assert run("--no-intercept", "--theta", "0", *QUICK) == 0
    # -2 mean(x y) of the 40 points.
    assert ["theta_1", "(x)", "0", *["-1.0253"] * 4] in [line.split() for line in capsys.readouterr().out.splitlines()]


def test_without_intercept_is_another_model_than_the_notebooks(capsys):
    assert run("--no-intercept", *QUICK) == 0
    printed = capsys.readouterr().out
    assert "theta drawn with seed 0" in printed
    assert "original notebook" not in printed


def test_kernel_by_the_name_of_its_way():
    assert run("--kernel", "torch.vmap", "--out", "e.csv", *QUICK) == 0
    assert "torch.vmap.per_sample" in Path("e.csv").read_text()


def test_drop_na_lets_the_file_in(capsys):
    Path("d.csv").write_text("x,y\n1,2\n2,\n3,5\n4,6\n")
    assert "column 'y' has no value in row 2 (line 3)" in refusal("--data", "d.csv", "--target", "y")
    assert run("--data", "d.csv", "--target", "y", "--drop-na", "--draws", "30") == 0
    assert "d.csv: 3 rows, 1 feature" in capsys.readouterr().out


def test_a_failed_write_leaves_nothing_behind(monkeypatch, folder):
    def full(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        run("--out", "e.csv", *QUICK)
    assert list(folder.iterdir()) == []


def test_no_file_takes_the_place_of_a_device():
    null = Path("null")
    null.symlink_to("/dev/null")
    assert "--out null is no regular file; name another" in refusal("--out", "null", "--force", *QUICK)
    assert null.is_char_device()


@pytest.mark.parametrize("option", ["--out", "--plot"])
def test_an_existing_file_is_replaced_by_force_only(option):
    there = Path("there.png")
    there.write_text("precious")
    assert f"{option} there.png is there already; replace it with --force" in refusal(option, "there.png", *QUICK)
    assert run(option, "there.png", "--force", *QUICK) == 0
    assert b"precious" not in there.read_bytes()
    assert [path.name for path in Path().iterdir()] == ["there.png"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--problem", "liner"), "there is no problem 'liner'; did you mean linear?"),
        (("--data", "notebok"), "did you mean notebook?"),
        (("--data", "d.csv"), "cannot read d.csv: No such file"),
        (("--target", "y"), "leave out --target y"),
        (("--batch-sizes", "1,x"), "'x' is not a number"),
        (("--batch-sizes", "41"), "a batch of 41 cannot be drawn from 40 rows without replacement"),
        (("--draws", "3"), "3 draws cannot give an interval"),
        (("--theta", "1,b"), "--theta '1,b' is not numbers separated by commas"),
        (("--theta", "1"), "--theta '1': linear on notebook takes 2 finite numbers"),
        (("--theta", "1,inf"), "takes 2 finite numbers"),
        (("--kernel", "numpy.brodcast"), "did you mean numpy.broadcast or"),
        (("--plot", "e.jpg"), "--plot e.jpg: pictures end in .png, .svg, .pdf"),
        (("--out", "e.png", "--plot", "./e.png"), "--out and --plot are both e.png"),
        (("--out", "."), "is a folder; name a file in it"),
    ],
)
def test_bad_input_is_refused_and_nothing_written(arguments, expected):
    written = () if {"--out", "--plot"} & set(arguments) else ("--out", "out.csv", "--plot", "plot.png")
    assert expected in refusal(*arguments, *written)


def test_an_unwritable_folder_is_refused_before_computing(monkeypatch):
    monkeypatch.setattr(module, "kernel_by_key", None)  # computing would fail on it
    Path("file").write_text("")
    assert "--out file/e.csv: cannot write to" in refusal("--out", "file/e.csv")


def replaced(key, wrong):
    """Look-up of kernels in which the one called `key` gives `wrong(result)`."""
    right = gk.kernel(key)
    kernel = replace(right, out=False, builder=lambda problem: lambda *inputs: wrong(right.build(problem)(*inputs)))
    return lambda name: kernel if name == key else gk.kernel(name)


def test_a_way_that_disagrees_ends_with_code_1(monkeypatch, capsys):
    monkeypatch.setattr(module, "kernel_by_key", replaced("numpy.matmul.gradient", lambda gradient: 40 * gradient))
    assert run("--out", "e.csv", *QUICK) == 1
    assert "THEY DO NOT AGREE" in capsys.readouterr().out
    assert "numpy.matmul.gradient" in GRADIENT_KERNELS


def test_a_wrong_kernel_ends_with_code_1(monkeypatch, capsys):
    monkeypatch.setattr(module, "kernel_by_key", replaced("numpy.broadcast.per_sample", lambda rows: rows / 40))
    assert run("--out", "e.csv", *QUICK) == 1
    complaint = capsys.readouterr().err
    assert complaint.startswith("gradkernels: numpy.broadcast.per_sample on linear")
    assert complaint.count("\n") == 1
    assert not Path("e.csv").exists()
