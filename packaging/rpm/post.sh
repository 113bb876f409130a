# $1: how many versions are installed then: 1 for an installation, 2 for an upgrade. Nothing is started or restarted.
if [ -d /run/systemd/system ]; then
	systemctl --system daemon-reload >/dev/null || :
	if [ "$1" -gt 1 ]; then
		echo "l4lb: services run what was installed before until 'systemctl restart', which is safe: packets are forwarded meanwhile"
	fi
fi
