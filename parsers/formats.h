/* One line for each format; defined at the bottom of its file. */
#ifndef PARSERS_FORMATS_H
#define PARSERS_FORMATS_H

#include "parsers/parser.h"

extern const struct parser_ops parser_gguf;
extern const struct parser_ops parser_safetensors;

#endif
