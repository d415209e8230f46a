/* The database's schema; docs/STORE.md says what the columns hold. A migration that stands in a release is
 * never changed: the next version gets one of its own. */
#include "store/db.h"

static const char version_1[] =
    "CREATE TABLE sweeps (uuid TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, plan TEXT NOT NULL)"
    " STRICT, WITHOUT ROWID;"

    /* an id is never used again, so that the number of a deleted run names no other */
    "CREATE TABLE runs ("
    " id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE, began TEXT NOT NULL,"
    " kind TEXT NOT NULL, state TEXT, session TEXT, dataset TEXT, sweep TEXT, point INTEGER, repeat INTEGER,"
    " anchor INTEGER NOT NULL, model TEXT, what TEXT, hardware TEXT, stack TEXT, weights TEXT, source TEXT,"
    " note TEXT,"
    " width INTEGER, height INTEGER, num_frames INTEGER, num_frames_asked INTEGER,"
    " num_inference_steps INTEGER, batch_size INTEGER, prompt_tokens INTEGER, negative_tokens INTEGER,"
    " num_gpus INTEGER, guidance_scale REAL, fps REAL, flow_shift REAL,"
    " predicted_latency_s REAL, predicted_gpu_energy_j REAL, predicted_cpu_energy_j REAL,"
    " predicted_ram_energy_j REAL,"
    " UNIQUE (sweep, point, repeat)) STRICT;"
    "CREATE INDEX runs_by_began ON runs (began);"
    "CREATE INDEX runs_by_model ON runs (model, began);"
    "CREATE INDEX runs_by_hardware ON runs (hardware, began);"
    "CREATE INDEX runs_by_stack ON runs (stack, began);"
    "CREATE INDEX runs_by_dataset ON runs (dataset, began);"
    "CREATE INDEX runs_by_kind ON runs (kind, began);"
    "CREATE INDEX runs_by_session ON runs (session, began);"

    "CREATE TABLE windows ("
    " run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, position INTEGER NOT NULL, name TEXT NOT NULL,"
    " parent INTEGER, begin_s REAL, duration_s REAL, failed_reads INTEGER NOT NULL, gap_s REAL, note TEXT,"
    " PRIMARY KEY (run, position)) STRICT, WITHOUT ROWID;"

    /* why readings are absent: a few texts that most runs share */
    "CREATE TABLE reasons (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT;"

    "CREATE TABLE readings ("
    " run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, window INTEGER NOT NULL, device TEXT NOT NULL,"
    " energy_j REAL, energy_j_low REAL, energy_j_high REAL, energy_j_status TEXT,"
    " energy_j_reason INTEGER REFERENCES reasons,"
    " power_w REAL, power_w_low REAL, power_w_high REAL, power_w_status TEXT,"
    " power_w_reason INTEGER REFERENCES reasons,"
    " max_power_w REAL, max_power_w_low REAL, max_power_w_high REAL, max_power_w_status TEXT,"
    " max_power_w_reason INTEGER REFERENCES reasons,"
    " idle_power_w REAL, idle_power_w_low REAL, idle_power_w_high REAL, idle_power_w_status TEXT,"
    " idle_power_w_reason INTEGER REFERENCES reasons,"
    " PRIMARY KEY (run, window, device)) STRICT, WITHOUT ROWID;"

    "CREATE TABLE channels ("
    " run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, position INTEGER NOT NULL,"
    " source TEXT NOT NULL, label TEXT, name TEXT, device TEXT NOT NULL, limit_w REAL, note TEXT,"
    " PRIMARY KEY (run, position)) STRICT, WITHOUT ROWID;"

    "CREATE TABLE details ("
    " run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, window INTEGER NOT NULL,"
    " channel INTEGER NOT NULL, method TEXT, flags INTEGER NOT NULL, energy_j REAL, by_counter_j REAL,"
    " by_power_j REAL, samples INTEGER NOT NULL, sm_clock_mhz REAL, memory_clock_mhz REAL,"
    " temperature_c REAL, lowest_sm_clock_mhz REAL, highest_temperature_c REAL, throttle_reasons INTEGER,"
    " other_processes INTEGER,"
    " PRIMARY KEY (run, window, channel)) STRICT, WITHOUT ROWID;"

    "CREATE TABLE settings ("
    " run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, name TEXT NOT NULL, value TEXT NOT NULL,"
    " PRIMARY KEY (run, name)) STRICT, WITHOUT ROWID;"

    "CREATE TABLE findings ("
    " run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, position INTEGER NOT NULL,"
    " code TEXT NOT NULL, window TEXT, message TEXT NOT NULL, advice TEXT NOT NULL,"
    " excludes INTEGER NOT NULL,"
    " PRIMARY KEY (run, position)) STRICT, WITHOUT ROWID;";

const char *const kw__store_migrations[] = {version_1};
const int kw__store_version = sizeof kw__store_migrations / sizeof kw__store_migrations[0];
