/*
 * The command: a table of subcommands, each in a file of its own, and what holds for all of them
 * (closed descriptors, broken pipes, --help, --version).
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/cli.h"

static const struct command {
    const char *name, *about;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"predict", "latency and energy of a request, by stage", kw__cmd_predict},
    {"explain", "the bill, component by component; two stacks side by side", kw__cmd_explain},
    {"scaling", "the laws by resolution, frames and steps, with figures", kw__cmd_scaling},
    {"generate", "runs a model here: a clip, and its seconds and watt-hours", kw__cmd_generate},
    {"runs", "what was measured and kept: list, show, compare, export", kw__cmd_runs},
    {"import", "adds others' measurements: CodeCarbon, ML.ENERGY, tables", kw__cmd_import},
    {"sweep", "experiments over axes, here, by a command or on a cluster", kw__cmd_sweep},
    {"record", "meters any program and its children, stage by stage", kw__cmd_record},
    {"mark", "says to a record that a stage begins or ends", kw__cmd_mark},
    {"compare", "models side by side, per clip, second of video and pixel", kw__cmd_compare},
    {"validate", "predictors against measurements", kw__cmd_validate},
    {"calibrate", "times this machine, or fits a calibration to measured rows", kw__cmd_calibrate},
    {"reproduce", "a paper's tables and figures, theirs and ours", kw__cmd_reproduce},
    {"models", "the models that are built in", kw__cmd_models},
    {"hardware", "hardware profiles, with the source of each value", kw__cmd_hardware},
    {"doctor", "what this machine and this build can do", kw__cmd_doctor},
};
enum { NUM_COMMANDS = sizeof commands / sizeof commands[0] };

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < NUM_COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0) return &commands[i];
    return NULL;
}

static int unknown_command(const char *name)
{
    const char *names[NUM_COMMANDS];
    for (size_t i = 0; i < NUM_COMMANDS; i++) names[i] = commands[i].name;
    const char *what = name[0] == '-' ? "option" : "command";
    const char *nearest = name[0] == '-' ? NULL : kw__nearest_name(name, names, NUM_COMMANDS);
    if (nearest)
        return kw__cli_usage("unknown %s '%.80s', did you mean '%s'? See 'kinowatt --help'", what, name,
                             nearest);
    return kw__cli_usage("unknown %s '%.80s'; see 'kinowatt --help'", what, name);
}

static int print_help(void)
{
    struct kw__out out;
    kw__out_init(&out);
    kw__out_puts(&out,
                 "Usage: kinowatt COMMAND [arguments]\n\n"
                 "How long open text-to-video models take, and how much energy they use.\n\nCommands:\n");
    for (size_t i = 0; i < NUM_COMMANDS; i++)
        kw__out_printf(&out, "  %-10s  %s\n", commands[i].name, commands[i].about);
    kw__out_puts(
        &out,
        "\n'kinowatt COMMAND --help' lists a command's options. 'kinowatt --version' prints the version.\n"
        "Start with:  kinowatt predict wan2.1-t2v-1.3b\n");
    return kw__cli_emit(NULL, &out);
}

static int print_version(void)
{
    struct kw__out out;
    kw__out_init(&out);
    kw__out_printf(&out, "kinowatt %s\n", kw_version());
    return kw__cli_emit(NULL, &out);
}

static int help_of(const char *name)
{
    const struct command *command = find(name);
    char help[] = "--help", *argv[] = {(char *)name, help, NULL};
    return command ? command->run(2, argv) : unknown_command(name);
}

/* A descriptor that is closed would be handed to the next file opened, and the result written there.
 * It is opened the wrong way round, so that using it fails. */
static void hold_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) == -1 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
            return;
}

/* Documents are built of hundreds of small values; none may be left out because one could not be made.
 * Nothing has been written when this ends the program. */
static void *allocate_or_end(size_t size)
{
    void *memory = malloc(size);
    if (memory) return memory;
    static const char message[] = "kinowatt: out of memory\n";
    ssize_t ignored = write(STDERR_FILENO, message, sizeof message - 1);
    (void)ignored;
    _exit(KW__EXIT_FAILED);
}

int main(int argc, char **argv)
{
    hold_descriptors();
    json_set_alloc_funcs(allocate_or_end, free);
    /* A closed pipe and a file past the limit are writes that fail, and are reported. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    if (argc < 2) return print_help();
    const char *name = argv[1];
    const struct command *command = find(name);
    if (command) return command->run(argc - 1, argv + 1);
    bool help = strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0;
    if (strcmp(name, "help") == 0 && argc == 3) return help_of(argv[2]);
    if (strcmp(name, "help") == 0 && argc > 3) return kw__cli_usage("unexpected argument '%.80s'", argv[3]);
    if (help || strcmp(name, "help") == 0) return print_help();
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) return print_version();
    return unknown_command(name);
}
