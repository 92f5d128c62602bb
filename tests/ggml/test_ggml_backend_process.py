"""The backend's library in processes of its own: under stock llama.cpp, beside a ggml it does not know; its memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from backend_models import model_file, tokens

from palo_cpp.ggml.backend_library import library_path, settled_amx
from palo_cpp.ggml.llama_library import llama_library
from palo_cpp.llm.language_model import LanguageModel

# Decodes with the plain binding: what a llama.cpp program does that knows nothing of palo_cpp.
STOCK = """
import ctypes, json, sys
import llama_cpp.llama_cpp as llama
import numpy as np

lines = []
callback = llama.llama_log_callback(lambda level, text, _: lines.append(text.decode()))
llama.llama_log_set(callback, None)
llama.llama_backend_init()
llama._lib.ggml_backend_load_all()  # reads GGML_BACKEND_PATH, as llama.cpp's own programs do at their start
path, tokens = sys.argv[1], json.loads(sys.argv[2])
model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
parameters = llama.llama_context_default_params()
parameters.n_ctx, parameters.n_threads, parameters.n_threads_batch = 512, 2, 2
parameters.n_seq_max, parameters.kv_unified = 16, True
context = llama.llama_init_from_model(model, parameters)
inputs = (ctypes.c_int32 * len(tokens))(*tokens)  # the batch only points to it
first = (ctypes.c_int32 * 1)(1)  # the warm-up that llama.cpp's own programs do
assert llama.llama_decode(context, llama.llama_batch_get_one(first, 1)) == 0
llama.llama_memory_clear(llama.llama_get_memory(context), True)
batch = llama.llama_batch_get_one(inputs, len(tokens))
assert llama.llama_decode(context, batch) == 0
n_vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
logits = np.ctypeslib.as_array(llama.llama_get_logits_ith(context, -1), (n_vocab,))
assert "palo_cpp" not in sys.modules
has_packed = any("PALO model buffer" in line for line in lines)
print(json.dumps({"has_packed": has_packed, "logits": logits.astype(float).tolist()}))
llama.llama_free(context)
llama.llama_model_free(model)
"""

# Pretends that ggml's interface has another version before palo_cpp meets it.
OTHER_VERSION = """
import ctypes, logging, sys
logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
from palo_cpp.ggml.llama_library import llama_library

llama = llama_library()
find = llama._lib.ggml_backend_reg_by_name
find.restype = ctypes.c_void_p
ctypes.c_int.from_address(find(b"CPU")).value = 3  # the first field of the entry: its version
from palo_cpp.llm.language_model import LanguageModel

for _ in range(2):
    with LanguageModel(sys.argv[1], n_ctx=512, n_threads=2, backend="palo") as model:
        assert not model.backend.is_active
        assert "expected version 2, got 3" in model.backend.reason, model.backend
        print(model.decode([300, 301, 302], position=0).argmax())
"""

MEMORY = """
import sys
from palo_cpp.bench.worker import peak_rss_bytes
from palo_cpp.llm.language_model import LanguageModel

with LanguageModel(sys.argv[1], n_ctx=512, n_threads=2, backend=sys.argv[2]) as model:
    model.decode([300] * 20, position=0)
    print(peak_rss_bytes())
"""


# Has Linux grant AMX tiles as another library may have before: then llama.cpp cannot be kept from asking for them.
TILES_GRANTED = """
import ctypes, sys
ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA = 158, 0x1023, 18
assert ctypes.CDLL(None).syscall(ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0
from palo_cpp.ggml.backend import backend_status
from palo_cpp.ggml.backend_library import settled_amx
from palo_cpp.llm.language_model import LanguageModel
from palo_cpp.ggml.llama_library import llama_library

assert all("ggml" in use.reason for use in backend_status("auto").types.values())
for mode in ("cpu", "palo"):
    with LanguageModel(sys.argv[1], n_ctx=512, n_threads=2, backend=mode) as model:
        print(model.decode(list(range(300, 340)), position=0).argmax())
print(settled_amx(llama_library()))
"""


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("PALO_CPP_CACHE", str(tmp_path_factory.getbasetemp() / "backend_models"))


def run(code, *arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def ours(path):
    with LanguageModel(path, n_ctx=512, n_threads=2, backend="palo") as model:
        return model.decode(tokens(40), position=0)


@pytest.mark.parametrize("outtype", ["q4_0", "q4_k_m"])
def test_stock_llama_cpp_loads_a_copy_of_the_library_from_anywhere(tmp_path, outtype):
    path, copied = model_file(outtype), tmp_path / "elsewhere.so"
    shutil.copy(library_path(), copied)
    arguments = (path, json.dumps(tokens(40)))
    found = json.loads(run(STOCK, *arguments, GGML_BACKEND_PATH=str(copied), PALO_CPP_BACKEND="palo").stdout)
    assert found["has_packed"]
    assert np.array_equal(np.float32(found["logits"]), ours(path))
    without = json.loads(run(STOCK, *arguments, GGML_BACKEND_PATH=str(copied), PALO_CPP_BACKEND="cpu").stdout)
    assert not without["has_packed"] and without["logits"] != found["logits"]


@pytest.mark.skipif(
    settled_amx(llama_library()) == "withdrawn", reason="llama.cpp by itself ends by an illegal instruction (amx.h)"
)
def test_switched_off_by_the_environment_stock_llama_cpp_is_itself():
    arguments = (model_file("q4_0"), json.dumps(tokens(40)))
    off = json.loads(run(STOCK, *arguments, GGML_BACKEND_PATH=str(library_path()), PALO_CPP_BACKEND="cpu").stdout)
    assert off == json.loads(run(STOCK, *arguments, GGML_BACKEND_PATH="").stdout)


def test_beside_another_version_of_ggmls_interface_it_stays_out_and_says_so_once():
    path = model_file("q4_0")
    done = run(OTHER_VERSION, path)
    with LanguageModel(path, n_ctx=512, n_threads=2, backend="cpu") as model:
        expected = model.decode([300, 301, 302], position=0).argmax()
    assert done.stdout.split() == [str(expected)] * 2
    assert [line for line in done.stderr.splitlines() if "palo" in line.lower()] == [
        "palo: the backend is not used: ggml's backend interface: expected version 2, got 3; "
        "use the version of llama.cpp that palo_cpp was built with"
    ]


def test_without_the_library_llama_cpp_computes_alone_and_it_is_said_once():
    code = """
import logging, sys
logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
from palo_cpp.ggml import backend_library
from palo_cpp.llm.language_model import LanguageModel

backend_library._FILE_NAME = "no-such-library.so"
for _ in range(2):
    with LanguageModel(sys.argv[1], n_ctx=512, n_threads=2) as model:
        assert not model.backend.is_active and "no-such-library.so" in model.backend.reason
"""
    done = run(code, model_file("q4_0"))
    assert len(done.stderr.splitlines()) == 1 and "expected it in" in done.stderr


@pytest.mark.skipif(settled_amx(llama_library()) == "absent", reason="this processor or llama.cpp has no AMX")
def test_amx_products_of_llama_cpp_never_end_the_process():
    cpu, palo, found = run(TILES_GRANTED, model_file("q4_0")).stdout.split()
    assert cpu == palo
    assert found == ("broken" if settled_amx(llama_library()) == "withdrawn" else "works")


@pytest.mark.skipif(sys.platform != "linux", reason="pages of a mapped file are let go on Linux")
@pytest.mark.parametrize("outtype", ["q4_0", "q4_k_m", "f16"])
def test_memory_is_no_more_than_llama_cpps_and_no_weight_is_there_twice(outtype):
    path = model_file(outtype, "wide", n_embd=1024, n_ff=2816, n_layer=4, n_head=16, n_head_kv=16, n_vocab=4096)
    palo, cpu = (int(run(MEMORY, path, mode).stdout) for mode in ("palo", "cpu"))
    assert palo <= 1.05 * cpu
    # What the process takes without a model is 60 MiB and more; the file has 40 MiB at least.
    n_bytes = path.stat().st_size
    bare = int(run(MEMORY, model_file("q4_0"), "palo").stdout)
    assert palo - bare < 1.5 * n_bytes
