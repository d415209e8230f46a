/* Shared libraries that are opened at run time, where they may be missing. */
#ifndef KW_BASE_LIBRARY_H
#define KW_BASE_LIBRARY_H

enum { KW__LIBRARY_WHY = 160 };

/* dlopen with RTLD_NOW, RTLD_LOCAL and further flags. NULL: why says "is not there", or that it is and cannot
 * be loaded, with the reason: cut short, of another processor, without a library that it needs itself. */
void *kw__library_open(const char *name, int flags, char why[KW__LIBRARY_WHY]);

#endif
