"""What `palo-cpp doctor` finds out: one function for each part of the installation and of the machine."""

from __future__ import annotations

import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palo_cpp.child_process import child_command
from palo_cpp.cli.progress import readable_size

if TYPE_CHECKING:
    from palo_cpp.errors import PaloError
    from palo_cpp.ggml.backend import BackendMode
    from palo_cpp.models.files import ModelFiles

PACKAGES = ("palo-cpp", "llama-cpp-python", "gguf", "numpy", "pillow", "sentencepiece", "click", "rich")
# Those that matrix kernels are written for, narrowest first; as Linux spells them, for x86-64 and for Arm.
CPU_FEATURES = (
    *("sse4_2", "f16c", "fma", "avx", "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)
TRIAL = "palo_cpp.cli.loading_trial"
# Installed together and built for each other; anything else that is missing is the system's.
_OUR_LIBRARIES = ("libggml", "libllama")
REBUILD = (
    "build palo-cpp and llama-cpp-python again: in a clone of palo_cpp, pip install --force-reinstall --no-cache-dir ."
)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: its name.
        value: what was found, on one line.
        is_ok: False where something that palo_cpp needs is missing or broken.
        advice: how to fix it.
    """

    what: str
    value: str
    is_ok: bool = True
    advice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def examine(model: str, mode: BackendMode = "auto") -> dict[str, list[Finding]]:
    """Look at everything.

    Args:
        model: what `-m` names.
        mode: which kernels `--backend` asks for.

    Returns:
        Section -> findings. A look that fails is a finding too.
    """
    parts: dict[str, Callable[[], list[Finding]]] = {
        "machine": machine,
        "memory": memory,
        "libraries": libraries,
        "instruction sets": instruction_sets,
        "backend": lambda: backend(mode),
        "image formats": image_formats,
        "models": lambda: models(model),
    }
    return {name: _attempted(name, look) for name, look in parts.items()}


def _attempted(name: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return look()
    except Exception as error:
        reason, _, advice = str(error).partition("; ")
        if not advice and isinstance(error, ModuleNotFoundError):
            advice = "install what is missing: see libraries"
        advice = advice or "fix what is named here, or report it with the output of `palo-cpp doctor --json`"
        return [Finding(name, f"{type(error).__name__}: {reason}", is_ok=False, advice=advice)]


def machine() -> list[Finding]:
    """System, Python, CPU and the cores that this process may use."""
    from palo_cpp.machine import cpu_quota, n_physical_cores

    quota = cpu_quota()
    cores = f"{n_physical_cores()} physical cores usable, {os.cpu_count()} logical in the machine"
    return [
        Finding("system", f"{platform.system()} {platform.release()}, {platform.machine()}"),
        Finding("python", f"{platform.python_version()}, {sys.executable}"),
        Finding("cpu", _cpu_name()),
        Finding("cores", cores + (f", a limit of {quota:g} CPUs" if quota else "")),
    ]


def memory() -> list[Finding]:
    """Memory that a model can be loaded into."""
    from palo_cpp.machine import memory_available, memory_total

    return [Finding("memory", f"{_size(memory_available())} available of {_size(memory_total())}")]


def _size(n_bytes: int | None) -> str:
    return "unknown" if n_bytes is None else readable_size(n_bytes)


def _cpu_name() -> str:
    return _cpu_info().get("model name") or platform.processor() or "unknown"


def _cpu_info() -> dict[str, str]:
    """What Linux says about the first CPU; nothing elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":")[::2] for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, value in pairs}


def libraries() -> list[Finding]:
    """Versions of the packages, whether the compiled ones load, and from which files."""
    found = [_package(name) for name in PACKAGES]
    if all(finding.is_ok for finding in found):
        found.append(_trial())
    if all(finding.is_ok for finding in found):
        found += _loaded_files()
    return found


def _package(name: str) -> Finding:
    try:
        return Finding(name, version(name))
    except PackageNotFoundError:
        return Finding(name, "missing", is_ok=False, advice=_pip_install(name))


def _pip_install(name: str, *options: str) -> str:
    """The command that installs a package; palo_cpp, which brings the others, where that is not installed itself."""
    try:
        return " ".join(("pip install", *options, _requirement(name, requires("palo-cpp") or [])))
    except PackageNotFoundError:
        return "in a clone of palo_cpp: pip install ."


def _requirement(name: str, needed: list[str]) -> str:
    """The package with the versions that are needed, quoted for a shell: `'numpy>=2'`."""
    wanted = re.compile(rf"{re.escape(name)}(?![\w.-])", re.IGNORECASE)
    return next((f"'{each}'" for each in needed if wanted.match(each) and ";" not in each), name)


def _trial() -> Finding:
    try:
        trial = subprocess.run(child_command(TRIAL), capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        advice = "try again when the machine is less busy"
        return Finding("loading", "took longer than 120 s", is_ok=False, advice=advice)
    if trial.returncode == 0:
        return Finding("loading", "palo_cpp._core and llama_cpp load")
    if trial.returncode == -getattr(signal, "SIGILL", 4):
        return Finding("loading", "illegal instruction: built for another CPU", is_ok=False, advice=REBUILD)
    last_line = (trial.stderr.strip().splitlines() or [f"exit code {trial.returncode}"])[-1]
    return Finding("loading", last_line, is_ok=False, advice=_loading_advice(last_line))


def _loading_advice(reason: str) -> str:
    missing = re.search(r"([\w.+-]+): cannot open shared object file", reason)
    if missing and not missing[1].startswith(_OUR_LIBRARIES):
        return f"install the package of your system that brings {missing[1]}"
    return REBUILD


def _loaded_files() -> list[Finding]:
    import palo_cpp._core as core
    from palo_cpp.ggml.llama_library import llama_library

    llama_library()
    files = [Path(core.__file__), *sorted(_mapped(*_OUR_LIBRARIES))]
    found = [Finding("file", str(path)) for path in files]
    n_ggml = sum(path.name.startswith("libggml-base") for path in files)
    if n_ggml > 1:
        found.append(Finding("ggml", f"loaded {n_ggml} times into one process", is_ok=False, advice=REBUILD))
    return found


def _mapped(*prefixes: str) -> set[Path]:
    """Libraries with such names that are loaded into this process, where Linux lists them."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return set()
    paths = {Path(fields[5]) for line in lines if len(fields := line.split(maxsplit=5)) == 6}
    return {path for path in paths if path.name.startswith(prefixes)}


def instruction_sets() -> list[Finding]:
    """What the CPU has, and what of it palo_cpp's kernels and llama.cpp use."""
    import palo_cpp._core as core
    from palo_cpp.ggml.llama_library import llama_library

    info = _cpu_info()
    features = f"{info.get('flags', '')} {info.get('Features', '')}".split()
    has = " ".join(name for name in CPU_FEATURES if name in features)
    available = ", ".join(getattr(core, "available_isas", lambda: ["ref"])())
    llama = llama_library().llama_print_system_info().decode("utf-8", "replace")
    uses = [
        part.split("=")[0].replace("CPU :", "").strip() for part in llama.split("|") if part.strip().endswith("= 1")
    ]
    return [
        Finding("cpu has", has or "unknown"),
        Finding("palo_cpp", f"offers {available}; uses {_isa_in_use(core)}"),
        Finding("llama.cpp", f"uses {' '.join(uses)}"),
        *_amx(llama_library()),
    ]


def _amx(llama: Any) -> list[Finding]:
    """Whether llama.cpp's AMX products had to be left out."""
    from palo_cpp.ggml.backend_library import settled_amx

    if settled_amx(llama) in ("absent", "works"):
        return []
    rebuild = _pip_install("llama-cpp-python", "--force-reinstall", "--no-cache-dir")
    advice = f"all else works; with a newer compiler, {rebuild} builds it whole"
    value = "left out: broken by the compiler that built it (GCC's bug 114098)"
    return [Finding("llama.cpp's AMX", value, advice=advice)]


def _isa_in_use(core: Any) -> str:
    forced = os.environ.get("PALO_CPP_ISA")
    return f"{getattr(core, 'isa', lambda: 'ref')()}" + (f" (PALO_CPP_ISA={forced})" if forced else "")


def backend(mode: BackendMode) -> list[Finding]:
    """Whether our kernels run under llama.cpp, for which block types, and why not for the others."""
    from palo_cpp.ggml.backend import backend_status

    status = backend_status(mode)
    if not status.is_registered:
        advice = f"models run all the same, on llama.cpp's own kernels; {REBUILD}"
        return [Finding("library", f"not in use: {status.reason}", advice=advice)]
    taken = [name for name, use in status.types.items() if use.is_active]
    found = [
        Finding("library", str(status.path)),
        Finding("mode", f"{status.mode}, {status.isa}; active for {', '.join(taken) or 'no block type'}"),
    ]
    return found + [
        Finding(name, f"{'ours' if use.is_active else 'llama.cpp'}: {use.reason}") for name, use in status.types.items()
    ]


def image_formats() -> list[Finding]:
    """Image formats whose support depends on how Pillow was built."""
    from PIL import features

    advice = "pip install --upgrade pillow"
    return [*(_format(features.check(codec), name, advice) for codec, name in _CODECS.items()), _heic()]


def _heic() -> Finding:
    from palo_cpp.vision.heif import has_heif_reader

    if has_heif_reader():
        return Finding("HEIC", "can be read")
    return Finding("HEIC", "cannot be read; phones take such photos", advice='pip install "palo-cpp[heif]"')


_CODECS = {"jpg": "JPEG", "zlib": "PNG", "webp": "WebP", "avif": "AVIF", "libtiff": "TIFF (compressed)"}
_NEEDED_CODECS = ("JPEG", "PNG")


def _format(is_there: bool | None, name: str, advice: str) -> Finding:
    if is_there:
        return Finding(name, "can be read")
    return Finding(name, "cannot be read", is_ok=name not in _NEEDED_CODECS, advice=advice)


def models(model: str) -> list[Finding]:
    """The models in a folder, or the one named: whether they are whole, and would fit into memory."""
    from palo_cpp.models.files import model_path

    place = model_path(model)
    if not place.exists():
        return _named_model(model)
    files = sorted(place.glob("*.gguf")) if place.is_dir() else [place]
    if not files:
        advice = "make them with palo-cpp convert CHECKPOINT -o FOLDER, then name that folder with -m"
        return [Finding("models", f"none in {place.resolve()}", is_ok=False, advice=advice)]
    return [_model(path) for path in files]


def _named_model(model: str) -> list[Finding]:
    """A model of the hub, as the cache has it."""
    from palo_cpp.errors import PaloError
    from palo_cpp.models.files import find_model

    try:
        files = find_model(model)
    except PaloError as error:
        return [_failed(model, error)]
    return [_model(header.path) for header in (files.text, files.mmproj) if header is not None]


def _model(path: Path) -> Finding:
    from palo_cpp.errors import PaloError
    from palo_cpp.ggml.gguf_header import read_header
    from palo_cpp.models.files import find_model

    try:
        header = read_header(path)
        if header.is_mmproj:
            return Finding(path.name, f"vision tower and projector, {_size(header.size_bytes)}")
        return _language_model(path.name, find_model(path))
    except PaloError as error:
        return _failed(path.name, error)


def _failed(name: str, error: PaloError) -> Finding:
    message, _, advice = str(error).partition("; ")
    return Finding(name, message, is_ok=False, advice=advice)


def _language_model(name: str, files: ModelFiles) -> Finding:
    from palo_cpp.machine import memory_available
    from palo_cpp.models.loading import Choices, needed_memory

    n_ctx = files.family.sizes(files.text).n_ctx
    needed, available = needed_memory(files, Choices()).total, memory_available()
    partner = f", goes with {files.mmproj.path.name}" if files.mmproj else ""
    value = f"language model{partner}; takes {_size(needed)} with {n_ctx} tokens of context"
    if available is not None and needed > available:
        return Finding(
            name, f"{value}, more than is available", advice="palo-cpp quantize makes it smaller; so does -c"
        )
    return Finding(name, value)
