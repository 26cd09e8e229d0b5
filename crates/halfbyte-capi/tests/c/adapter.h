/* A small LoRA adapter for the embedded model, written as a ggla file. */

#ifndef ADAPTER_H
#define ADAPTER_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <halfbyte.h>

/* One matrix of the width of the model: r = 1, and numbers that change with every element. */
static inline void write_factor(FILE *file, const char *name, int32_t width, float step)
{
    const int32_t head[] = {2, (int32_t)strlen(name), 0, 1, width};
    int32_t i;
    fwrite(head, sizeof *head, 5, file);
    fwrite(name, 1, strlen(name), file);
    while (ftell(file) % 32 != 0) fputc(0, file);
    for (i = 0; i < width; i++) {
        const float value = step * (float)(i % 7 - 3);
        fwrite(&value, sizeof value, 1, file);
    }
}

/* Writes the adapter to path; 0 if that fails. */
static inline int write_adapter(hb_model *model, const char *path)
{
    const int32_t head[] = {0x67676c61, 1, 1, 2};
    hb_model_info info;
    FILE *file;
    memset(&info, 0, sizeof info);
    info.size = sizeof info;
    if (hb_model_get_info(model, &info) != HB_OK) return 0;
    file = fopen(path, "wb");
    if (file == NULL) return 0;
    fwrite(head, sizeof *head, 4, file);
    write_factor(file, "blk.0.attn_q.weight.loraA", (int32_t)info.hidden_size, 0.1f);
    write_factor(file, "blk.0.attn_q.weight.loraB", (int32_t)info.hidden_size, 0.3f);
    write_factor(file, "blk.0.attn_v.weight.loraA", (int32_t)info.hidden_size, 0.1f);
    write_factor(file, "blk.0.attn_v.weight.loraB", (int32_t)info.hidden_size, 0.3f);
    return fclose(file) == 0;
}

#endif
