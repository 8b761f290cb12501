#ifndef PHALANX_CODEC_H
#define PHALANX_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "codec_api.h"

#endif
