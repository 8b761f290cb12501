#ifndef PHX_UDP_H
#define PHX_UDP_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

/* Older headers lack these. */
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#include "udp_api.h"

#endif
