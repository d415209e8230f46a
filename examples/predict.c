/* Predicts what one clip of WAN2.1 takes on a GPU, in time and energy. Build it against an installed
 * kinowatt:   cc predict.c $(pkg-config --cflags --libs kinowatt)
 *             ./a.out [MODEL [FRAMES [HARDWARE]]] */
#include <kinowatt.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    kw_error err;
    kw_catalog *catalog = NULL;
    kw_model *model = NULL;
    kw_prediction *p = NULL;
    kw_request request = KW_REQUEST_INIT;
    kw_predict_options options = KW_PREDICT_OPTIONS_INIT;
    request.num_frames = argc > 2 ? strtol(argv[2], NULL, 10) : 49;
    options.hardware = argc > 3 ? argv[3] : "h100-sxm";

    kw_status status = kw_catalog_open(NULL, &catalog, &err);
    if (!status) status = kw_model_open(catalog, argc > 1 ? argv[1] : "wan2.1-t2v-1.3b", &model, &err);
    if (!status) status = kw_predict(catalog, model, &request, &options, &p, &err);
    if (status) {
        fprintf(stderr, "%s: %s\n", kw_status_name(status), err.message);
    } else {
        printf("%s on %s: %.1f s", p->model, p->hardware, p->total.latency_s.value);
        if (p->total.energy_j[KW_GPU].status != KW_ABSENT)
            printf(", %.2f Wh", p->total.energy_j[KW_GPU].value / 3600);
        printf("\n");
    }
    kw_prediction_free(p);
    kw_model_close(model);
    kw_catalog_close(catalog);
    return status != KW_OK;
}
