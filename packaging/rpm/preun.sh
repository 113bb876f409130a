# $1: how many versions are left: 0 for a removal. Takes nothing down.
if [ "$1" -eq 0 ]; then
	for pins in /sys/fs/bpf/l4lb/*; do
		instance=${pins##*/}
		case $instance in '*' | *:*) continue ;; esac
		[ -d "$pins" ] || continue
		echo "l4lb: instance '$instance' stays in the kernel: what it forwards or decapsulates, it goes on with"
		echo "l4lb: to end it: lbctl --instance $instance down (before the removal, or after installing l4lb again)"
	done
fi
