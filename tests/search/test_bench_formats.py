"""From which setting on a format pays, as `bench formats` says below each table."""

from search.bench import formats

DENSE, SPARSE = "conv2d/winograd", "conv2d_unpack_bitmap/planes"


def row(times_fastest, *kernels):
    return {"bytes_ratio": 2.0, "times_direct": 2 * times_fastest, "times_fastest": times_fastest, "weights": "",
            "kernels": list(kernels), "fastest": DENSE}


def shown(rows, capsys):
    formats.show({"target": "local", "layers": {"3x3": rows}})
    return capsys.readouterr().out.replace("\n", " ").partition("from here on faster than the fastest:")[2].split()


def test_a_method_breaks_even_at_its_first_faster_setting(capsys):
    rows = {"magnitude-keep0.5": row(0.8, SPARSE), "magnitude-keep0.2": row(1.2, SPARSE), "magnitude-keep0.1": row(2.0, SPARSE),
            "xnor": row(9.0, "binarize/words", "binary_conv2d/popcount")}
    assert shown(rows, capsys) == ["magnitude-keep0.2,", "xnor"]


def test_noise_about_one_and_the_same_kernel_is_no_gain(capsys):
    rows = {"codebook-bits8": row(1.05, DENSE), "codebook-bits4": row(1.02, DENSE), "hashed": {"refused": "too small"}}
    assert shown(rows, capsys) == ["none"]
