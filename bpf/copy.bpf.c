// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Copies packets to the process that captures. Each capture has a copy of these programs, and its
 * filters call them. They do not delay or lose packets: if there is no room for a copy, they count
 * that, and the packet goes on.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "l4lb/abi/abi.h"
#include "l4lb/state/reals.h"
#include "l4lb/watch/captures.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile struct capture_options options = {};

/*
 * A perf buffer instead of a ring buffer: each CPU has its own, so that no CPU waits for another
 * one, and the kernel copies any number of bytes straight from the packet.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} capture_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct capture_count);
} capture_counts SEC(".maps");

/* BPF_F_MMAPABLE: user space changes single words of the value. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct capture_wanted);
} capture_wanted SEC(".maps");

const volatile struct capture_event lb_btf_capture_event = {};

static __always_inline int has_bit(const volatile __u64 *bits, __u32 bit)
{
	return bits[bit / 64] >> (bit % 64) & 1;
}

static __always_inline int is_wanted(struct xdp_md *ctx, const struct decision *decision)
{
	__u32 cpu = bpf_get_smp_processor_id(), zero = 0;
	struct capture_wanted *wanted = bpf_map_lookup_elem(&capture_wanted, &zero);

	if (!wanted || cpu >= LB_MAX_CPUS || !has_bit(options.cpus, cpu))
		return 0;
	if (options.match_ifindex && wanted->ifindex != ctx->ingress_ifindex)
		return 0;
	if (!decision)
		return 1;
	if (decision->reason >= 64 || !(options.reasons >> decision->reason & 1))
		return 0;
	if (options.match_vip &&
	    (decision->vip >= LB_MAX_VIPS || !has_bit(wanted->vips, decision->vip)))
		return 0;
	if (options.match_real &&
	    (decision->real >= LB_REAL_IDS || !has_bit(wanted->reals, decision->real)))
		return 0;
	return 1;
}

static __always_inline void copy(struct xdp_md *ctx, __u32 point, const struct decision *decision)
{
	__u32 length = ctx->data_end - ctx->data, zero = 0;
	struct capture_event event = {
		.point = point,
		.ifindex = ctx->ingress_ifindex,
		.queue = ctx->rx_queue_index,
		.length = length,
	};
	struct capture_count *count;
	struct real *real;

	if (!is_wanted(ctx, decision))
		return;
	count = bpf_map_lookup_elem(&capture_counts, &zero);
	if (!count)
		return;
	if (options.sample_below && bpf_get_prandom_u32() >= options.sample_below) {
		count->sampled_out++;
		return;
	}
	event.time = bpf_ktime_get_ns();
	event.captured = length < options.snaplen ? length : options.snaplen;
	if (decision) {
		event.reason = decision->reason;
		event.vip = decision->vip;
		event.real = decision->real;
		/* Looked up now: when user space reads the event, the id may be another real's. */
		real = event.real ? bpf_map_lookup_elem(&reals, &event.real) : NULL;
		if (real)
			event.real_addr = real->addr;
	}
	if (bpf_perf_event_output(ctx, &capture_events,
				  BPF_F_CURRENT_CPU | (__u64)event.captured << 32, &event,
				  sizeof(event)))
		count->buffer_full++;
	else
		count->captured++;
}

SEC("xdp")
int capture_entry(struct xdp_md *ctx)
{
	copy(ctx, LB_CAPTURE_ENTRY, NULL);
	follow_captures(ctx, LB_CAPTURE_ENTRY, options.capture + 1);
	return XDP_PASS;
}

SEC("xdp")
int capture_exit(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct decision *decision = bpf_map_lookup_elem(&capture_verdict, &zero);

	if (decision)
		copy(ctx, LB_CAPTURE_EXIT, decision);
	follow_captures(ctx, LB_CAPTURE_EXIT, options.capture + 1);
	return XDP_DROP;
}
