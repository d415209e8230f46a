/*
 * kinowatt mark: tells a record that runs that a stage begins or ends, from a script.
 *
 * The moment is that of its start, so it comes first. All marks of scripts are one sequence of the run,
 * since each is a process of its own. Without a record it does nothing, as a script is also run alone.
 */
#include <string.h>

#include "cli/cli.h"
#include "record/send.h"

static const char setting_chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";

static bool is_sendable(const char *name)
{
    size_t length = strlen(name);
    for (const char *c = name; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7F) return false;
    return length > 0 && length < 64;
}

int kw__cmd_mark(int argc, char **argv)
{
    uint64_t now_ns = kw__mark_now_ns();
    const char *begin = NULL, *end = NULL;
    struct kw__texts settings = {.count = 0};
    const struct kw__option extra[] = {
        {"begin", 0, KW__OPTION_TEXT, "NAME", "begin a stage inside the one that is open", &begin},
        {"end", 0, KW__OPTION_TEXT, "NAME", "end it", &end},
        {"set", 0, KW__OPTION_LIST, "NAME=VALUE", "a setting of the run", &settings},
    };
    const struct kw__usage usage = {
        .name = "mark",
        .synopsis = "[NAME]",
        .about =
            "In a script that 'kinowatt record' runs: ends the stage that the mark before began, and begins\n"
            "NAME. Without a record it does nothing.",
        .most = 1,
        .extra = extra,
        .n_extra = sizeof extra / sizeof extra[0],
    };
    struct kw__options options;
    int code = kw__options_parse(&usage, argc, argv, &options);
    if (code != KW__PROCEED) return code;
    const char *next = options.n_args ? options.args[0] : NULL;
    if (!next && !begin && !end && !settings.count)
        return kw__cli_usage("mark needs a stage's name, or --begin, --end or --set");
    const struct {
        const char *verb, *name;
    } marks[] = {{"all end", end}, {"all mark", next}, {"all begin", begin}};
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
        if (marks[i].name && !is_sendable(marks[i].name))
            return kw__cli_usage("a stage's name has 1 to 63 bytes and no control characters");
    for (size_t i = 0; i < settings.count; i++) {
        char name[64];
        const char *equals = strchr(settings.texts[i], '=');
        size_t length = equals ? (size_t)(equals - settings.texts[i]) : 0;
        if (length == 0 || length >= sizeof name || strspn(settings.texts[i], setting_chars) != length)
            return kw__cli_usage(
                "--set '%.80s' is not valid; give NAME=VALUE, a name of letters, digits, '_', "
                "'-' and '.'",
                settings.texts[i]);
        memcpy(name, settings.texts[i], length);
        name[length] = '\0';
        kw__mark_send_setting("all set", name, equals + 1);
    }
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
        if (marks[i].name) kw__mark_send(marks[i].verb, marks[i].name, now_ns);
    return KW__EXIT_OK;
}
