#ifndef PHX_UDP_H
#define PHX_UDP_H

#include <stddef.h>
#include <stdint.h>

#include "udp_api.h"

#endif
