/* The main of a fuzz target built without libFuzzer: runs it over its corpus, or over the files and
 * folders given, so that `make check` repeats every input that ever mattered. Prints one TAP line.
 * The corpus is tests/fuzz/corpus/<name of this program>, seen from the repository. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Runs one file; true when it could be read. */
static int replay_file(const char *path, size_t size)
{
    FILE *file = fopen(path, "rb");
    /* exactly as long as the input, so that a sanitizer sees a read past its end */
    uint8_t *data = malloc(size ? size : 1);
    int read_all = file && data && fread(data, 1, size, file) == size;
    if (file) fclose(file);
    if (read_all) {
        fprintf(stderr, "# %s\n", path); /* the last one named is the one that crashed */
        LLVMFuzzerTestOneInput(data, size);
    }
    free(data);
    return read_all;
}

/* The number of inputs run, or -1 when one could not be read. */
static int replay(const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0) return -1;
    if (!S_ISDIR(info.st_mode)) return replay_file(path, (size_t)info.st_size) ? 1 : -1;
    DIR *folder = opendir(path);
    int total = 0;
    for (struct dirent *entry; folder && total >= 0 && (entry = readdir(folder));) {
        char name[4096];
        if (entry->d_name[0] == '.') continue;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        int runs = replay(name);
        total = runs < 0 ? -1 : total + runs;
    }
    if (!folder) return -1;
    closedir(folder);
    return total;
}

int main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/');
    const char *target = slash ? slash + 1 : argv[0];
    char corpus[4096];
    snprintf(corpus, sizeof corpus, "tests/fuzz/corpus/%s", target);
    char *whole[] = {corpus};
    char **paths = argc > 1 ? argv + 1 : whole;
    int num_paths = argc > 1 ? argc - 1 : 1, total = 0;
    for (int i = 0; i < num_paths; i++) {
        int runs = replay(paths[i]);
        if (runs <= 0) {
            printf("not ok - %s: no readable input in %s\n", target, paths[i]);
            return 1;
        }
        total += runs;
    }
    printf("ok - %s replays %d inputs\n", target, total);
    return 0;
}
