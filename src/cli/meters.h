/* --meter: which meters a measuring command uses. */
#ifndef KW__CLI_METERS_H
#define KW__CLI_METERS_H

#include <stdbool.h>

#include "kinowatt.h"

/* Opens what --meter names: "auto", "nvml", "rapl", "nvml,rapl", "replay:FILE" or "none". `metered` says
 * which devices it measures now. KW_ERROR_DEVICE: a meter that was named measures none; why, as doctor says
 * it. max_windows 0: as many as a meter has unless told otherwise. */
kw_status kw__meters_open(const char *name, size_t max_windows, kw_meter **out, bool metered[KW_NUM_DEVICES],
                          kw_error *err);

#endif
