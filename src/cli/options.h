/*
 * Options of the commands: one table drives parsing, --help and the offer of the nearest name.
 *
 * Invariants
 * - Numbers are read whole or refused: no trailing characters, blanks, hexadecimal, NaN or infinity,
 *   nothing out of range. The message names option, value and what would do.
 * - Names are those of diffusers in kebab case; `kinowatt predict -s 20` is num_inference_steps=20.
 * - Options and arguments mix in any order; "--" ends the options. Of a command that runs another one
 *   the first argument ends them, and all that follows is the other's.
 */
#ifndef KW__CLI_OPTIONS_H
#define KW__CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "kinowatt.h"

enum kw__option_kind {
    KW__OPTION_FLAG,   /* bool */
    KW__OPTION_TEXT,   /* const char *, not empty */
    KW__OPTION_STRING, /* const char *, may be empty */
    KW__OPTION_LIST,   /* struct kw__texts, one more each time it is given; none empty */
    KW__OPTION_COUNT,  /* int64_t, 1 or more */
    KW__OPTION_WHOLE,  /* int64_t, 0 or more */
    KW__OPTION_ABOVE,  /* double, more than 0 */
    KW__OPTION_AMOUNT, /* double, 0 or more */
};

enum { KW__MOST_TEXTS = 64 };
struct kw__texts {
    const char *texts[KW__MOST_TEXTS];
    size_t count;
};

struct kw__option {
    const char *name; /* without the dashes */
    char letter;      /* 0: none */
    enum kw__option_kind kind;
    const char *argument; /* "PIXELS"; NULL for flags */
    const char *help;
    void *target; /* of the kind's type */
};

/* Sets of options that commands have in common. */
enum {
    KW__WITH_REQUEST = 1, /* the request: size, frames, steps, guidance, ... */
    KW__WITH_SYSTEM = 2,  /* hardware, stack, calibration, power limit */
    KW__WITH_METHOD = 4,
    KW__WITH_JSON = 8,
    KW__WITH_CSV = 16,
    KW__WITH_OUTPUT = 32,
    KW__WITH_CLIP = 64, /* of the request, what holds when prompts are given and one clip is made */
};

struct kw__usage {
    const char *name;     /* "predict" */
    const char *synopsis; /* the arguments: "MODEL" */
    const char *about;    /* a few lines for --help */
    unsigned sets;
    size_t least, most;             /* arguments; most 0 with least 0: none */
    bool runs_command;              /* the arguments are another command and its arguments */
    const char *missing;            /* what to say when there are fewer: "name a model: ..." */
    const struct kw__option *extra; /* the command's own */
    size_t n_extra;
    const char *output; /* what --output says; NULL: "write there instead of stdout" */
};

struct kw__options {
    const struct kw__usage *usage;
    kw_request request;
    kw_predict_options predict;
    const char *method; /* as given; NULL: the default */
    const char *output, *data;
    bool json, csv, help;
    char **args; /* a part of argv */
    size_t n_args;
};

enum { KW__PROCEED = -1 };

/* Parses argv[1..]. Returns KW__PROCEED, or the exit code when there is nothing more to do: --help
 * was given (and printed), or the usage is wrong (and was reported). argv is rearranged. */
int kw__options_parse(const struct kw__usage *usage, int argc, char **argv, struct kw__options *out);

#endif
