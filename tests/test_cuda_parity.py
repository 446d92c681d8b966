"""The CPU's parity tests on devices: on the simulated one, and on a real one where there is one."""

import helpers
import pytest
import simulated
import test_parity
import test_parity_layout
import test_parity_types

MODULES = (test_parity, test_parity_layout, test_parity_types)

# What cannot be asked of a device: tests with these dtypes, and tests by name.
HOST_DTYPES = {"O", "g", "G", ">f8", ">i4", ">c16", ">f2", ">u2"}  # there are no kernels
HOST_ONLY = {
    "test_07_not_where_numpy_reads_the_list_as_an_array",  # a list of device arrays is no array
    "test_09_zero_against_one_is_zero",  # strides of an empty array
    "test_10_empty_object_sum_is_the_integer_zero",
    "test_13_array_function_of_an_operand_is_honoured",  # is asked before
    "test_13_array_function_of_out_is_honoured",
    "test_18_object_arrays",
    "test_18_a_big_endian_dtype_means_the_native_one",
}

globals().update(
    {
        name: test
        for module in MODULES
        for name, test in vars(module).items()
        if name.startswith("test_") and name not in HOST_ONLY
    }
)


def test_what_is_left_out_exists():
    assert all(any(hasattr(module, name) for module in MODULES) for name in HOST_ONLY)


@pytest.fixture(autouse=True, params=simulated.DEVICES)
def device(request, monkeypatch):
    given = getattr(request.node, "callspec", None)
    dtype = given.params.get("dtype") if given else None
    if dtype in HOST_DTYPES and request.node.originalname != "test_12_a_view_of_any_dtype":
        pytest.skip("a device has no such elements")
    if dtype == "O":
        pytest.skip("Python objects stay on the host")
    for module in (helpers, *MODULES):
        monkeypatch.setattr(module, "einsum", simulated.einsum)
    with simulated.on_device(request.param):
        yield
