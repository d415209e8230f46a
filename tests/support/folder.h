/* Folders to break: copies of data in a temporary folder. Whatever fails here fails the test. */
#ifndef KW_TESTS_FOLDER_H
#define KW_TESTS_FOLDER_H

enum { FOLDER_BYTES = 512 };

/* Makes an empty temporary folder; its path is written to `folder` of FOLDER_BYTES. */
void folder_new(char *folder);
/* A temporary folder that holds what `from` holds, regular files and folders. */
void folder_copy(const char *from, char *folder);
void folder_remove(const char *folder);

/* Replaces or makes <folder>/<file>, with the folder it is in. */
void folder_write(const char *folder, const char *file, const char *text);
/* Sets a key of the JSON object in <folder>/<file> to the value that `json` spells; NULL takes the key
 * out. The key may be a path of objects and array indices: "values.bf16_flop_per_s.value",
 * "matrix.0". */
void folder_set(const char *folder, const char *file, const char *key, const char *json);

#endif
