// llama.cpp's products on AMX tiles, where its compiler broke them.
//
// GCC before 13.3 drops all but the first eight bytes that are written into a tile configuration (GCC's bug 114098),
// and Debian 12 has GCC 12. llama.cpp built with it on a processor with AMX ends with an illegal instruction at its
// first prompt. So one product is tried in a process of its own, before llama.cpp lays out any weight.
#pragma once

namespace palo::backend {

// ABSENT: this processor or this build of llama.cpp has no AMX. WORKS: it has. WITHDRAWN: it is broken, and this
// process does without. BROKEN: it is broken and was asked for already, so llama.cpp must be told not to use it.
enum class Amx { ABSENT, WORKS, WITHDRAWN, BROKEN };

// Finds out, once per process; on a machine with AMX, some ten milliseconds.
Amx settle_amx();

}  // namespace palo::backend
