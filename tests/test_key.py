"""Keys are taken apart and put together in one place, and globs mean the same kernels wherever they are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradkernels as gk
from gradkernels.key import Key, configured, matching, split_patterns
from gradkernels.names import split_names

KEYS = {
    "numpy.broadcast.per_sample": Key("kernel", "broadcast", "numpy", quantity="per_sample"),
    "numpy.broadcast.per_sample@out": Key("kernel", "broadcast", "numpy", quantity="per_sample", out=True),
    "torch.vmap+[chunk=512].norms": Key("kernel", "vmap", "torch", True, "chunk=512", "norms"),
    "convert.jax": Key("conversion", "convert.jax"),
    "bandwidth.copy": Key("bandwidth", "bandwidth.copy"),
    "control": Key("control", "control"),
    "canary": Key("control", "canary"),
    "mine": Key("other", "mine"),
    "numpy.broadcast": Key("other", "numpy.broadcast"),
    "torch.vmap[chunk=1]+.norms": Key("other", "torch.vmap[chunk=1]+.norms"),
    "": Key("other", ""),
}


@pytest.mark.parametrize("text", KEYS)
def test_a_key_is_taken_apart(text):
    assert Key.parse(text) == KEYS[text]


# The default alphabet, without encoding a million characters to know that UTF-8 can.
part = st.from_regex(r"\w{1,6}", fullmatch=True, alphabet=st.characters(exclude_categories=["Cs"]))
kernel_keys = st.builds(
    "{}.{}{}{}.{}{}".format,
    part, part, st.sampled_from(["", "+"]), st.sampled_from(["", "[chunk=5]", "[a=1,b=2]"]), part,
    st.sampled_from(["", "@out"]),
)  # fmt: skip


@given(st.text() | kernel_keys | st.sampled_from(list(KEYS)))
def test_a_key_is_put_together_as_it_was(text):
    assert str(Key.parse(text)) == text


@pytest.mark.parametrize("kernel", gk.kernels(), ids=lambda kernel: kernel.key)
def test_every_kernel_has_a_key_of_a_kernel(kernel):
    key = Key.parse(kernel.key)
    assert (key.way, key.quantity, key.composed) == (kernel.way, kernel.quantity.name, kernel.composed)
    assert (key.kind, key.backend, key.settings, key.out) == ("kernel", kernel.backend.name, "", False)


def test_ways():
    key = Key.parse("torch.vmap+[chunk=512].norms@out")
    assert (key.way, key.plain_way) == ("torch.vmap+[chunk=512]", "torch.vmap[chunk=512]")
    assert str(key.plain) == "torch.vmap+.norms"
    assert (Key.parse("control").way, Key.parse("mine").plain_way) == ("control", "mine")


def test_what_competes_and_what_is_a_yardstick():
    assert [text for text in KEYS if Key.parse(text).is_yardstick] == ["bandwidth.copy", "control", "canary"]
    assert not any(Key.parse(text).competes for text in ("numpy.loop.norms@out", "convert.jax", "control", "canary"))
    assert all(Key.parse(text).competes for text in ("numpy.loop+.norms", "torch.vmap+[chunk=512].norms", "mine"))


@pytest.mark.parametrize("settings", ["chunk", "chunk=0", "chunk=x", "chunk=1,", "chunk=-1"])
def test_settings_that_are_no_numbers_are_refused(settings):
    with pytest.raises(ValueError, match=r"settings are written \[name=number\], for instance \[chunk=512\]"):
        Key.parse(f"torch.vmap[{settings}].norms").options()


def test_settings_by_name():
    assert Key.parse("numpy.blocked[rows=3, columns=4].norms").options() == {"rows": 3, "columns": 4}
    assert Key.parse("numpy.blocked.norms").options() == {}


TIMED = (
    *("numpy.broadcast.per_sample", "numpy.broadcast.per_sample@out", "numpy.broadcast+.norms", "numpy.loop+.norms"),
    *("numpy.matmul.gradient", "torch.vmap+.norms", "torch.vmap+[chunk=512].norms", "convert.torch"),
)
MEANT = [
    ("numpy", TIMED[:5]),
    ("numpy.*", TIMED[:5]),
    ("numpy.[bm]*", (*TIMED[:3], TIMED[4])),
    ("numpy.loop,torch.vmap", (TIMED[3], TIMED[5])),
    ("numpy.[!bm]*", (TIMED[3],)),
    ("*.norms", (TIMED[2], TIMED[3], TIMED[5], TIMED[6])),
    ("*@out", (TIMED[1],)),
    ("numpy.broadcast.per_sample", TIMED[:2]),
    ("numpy.broadcast+", (TIMED[2],)),
    ("torch.vmap[chunk=512]", (TIMED[6],)),
    ("torch.vmap+[chunk=512].norms", (TIMED[6],)),
    ("torch.vmap[*]", (TIMED[6],)),
    ("torch.vmap[chunk=*]", (TIMED[6],)),
    ("convert.*", (TIMED[7],)),
    ("*", TIMED),
]


@pytest.mark.parametrize(("pattern", "keys"), MEANT)
def test_a_glob_means_a_library_a_way_or_a_key(pattern, keys):
    assert tuple(matching(split_patterns([pattern]), TIMED)) == keys


def test_no_pattern_means_all():
    assert tuple(matching([], TIMED)) == TIMED


def test_settings_are_given_to_the_kernels_that_are_meant():
    declared = [key.key for key in gk.kernels(quantity="norms")]
    assert configured(["torch.vmap[chunk=512]", "torch.vmap"], declared) == [
        "torch.vmap+[chunk=512].norms",
        "torch.vmap+.norms",
    ]
    assert configured(["*.vmap+[chunk=512].norms"], ["torch.vmap+.norms", "torch.vmap.per_sample"]) == [
        "torch.vmap+[chunk=512].norms"
    ]


@pytest.mark.parametrize("choose", [matching, configured])
def test_a_glob_that_means_nothing_lists_near_names(choose):
    with pytest.raises(ValueError, match=r"^there is no kernel 'numpy\.lop'; did you mean numpy\.loop\?$"):
        choose(["numpy.lop"], ["numpy.loop+.norms", "torch.vmap.norms"])


def test_names_are_separated_by_commas_outside_of_brackets():
    assert split_names("huber(delta=2,l2=1), linear") == ["huber(delta=2,l2=1)", "linear"]
    assert split_patterns(["numpy.[bm]*,a.b[c=1,d=2]", "jax"]) == ["numpy.[bm]*", "a.b[c=1,d=2]", "jax"]
    with pytest.raises(ValueError, match="',' names nothing; write names separated by commas"):
        split_names(",")
