// Detects builds of llama.cpp whose products on AMX tiles are broken by their compiler.
//
// GCC before 13.3 drops all but the first eight bytes that are written into a tile configuration (GCC's bug 114098),
// and Debian 12 has GCC 12. llama.cpp built with it dies of an illegal instruction at its first prompt on a processor
// with AMX. So one product is tried in a child process, before llama.cpp lays out any weight.
#pragma once

namespace palo::backend {

// ABSENT: this processor or this build of llama.cpp has no AMX. WORKS: it has. WITHDRAWN: it is broken, and this
// process runs without it. BROKEN: it is broken, and ggml has listed it already, so the program must keep llama.cpp
// from using it.
enum class Amx { ABSENT, WORKS, WITHDRAWN, BROKEN };

// Determined once per process; takes about ten milliseconds on a machine with AMX.
Amx settle_amx();

}  // namespace palo::backend
