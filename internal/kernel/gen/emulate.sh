#!/bin/sh
# Runs the tests of the AVX-512 level under Bochs, on a machine without AVX-512:
#
#	apt-get install bochs bochsbios bochs-term isolinux syslinux-common xorriso cpio busybox-static
#	internal/kernel/gen/emulate.sh DIR
#
# It boots Debian's cloud kernel with the test binary in the initial ram disk. DIR gets the pieces and serial.out,
# which ends in ALLDONE after some 10 minutes; the script fails if a test did.
set -eu
dir=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$(dirname "$0")/.."
mkdir -p "$dir/root/bin" "$dir/root/proc" "$dir/root/dev" "$dir/root/tmp" "$dir/iso/isolinux"
CGO_ENABLED=0 go test -c -o "$dir/root/kernel.test" .
cd "$dir"
if [ ! -f iso/vmlinuz ]; then
	apt-get download "$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends/ {print $2; exit}')"
	dpkg-deb -x linux-image-*.deb image
	cp image/boot/vmlinuz-* iso/vmlinuz
fi
cp /bin/busybox root/bin/busybox
# One run a test: the output of a run that dies is then still attributed.
cat > root/init <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t tmpfs tmp /tmp
exec >/dev/ttyS0 2>&1
for t in $(/kernel.test -test.list '^Test'); do
	GOMAXPROCS=1 /kernel.test -test.short -test.v -test.run "^$t\$/^avx512\$" || echo "DIED $t"
done
echo ALLDONE
/bin/busybox sleep 2
/bin/busybox poweroff -f
INIT
chmod +x root/init
(cd root && find . | cpio -o -H newc 2>cpio.log | gzip -1 > ../iso/initrd.gz)
cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 iso/isolinux/
# Bochs reports a size of the compact XSAVE area with which Linux would give up AVX: no xsavec, no xsaves.
cat > iso/isolinux/isolinux.cfg <<'CFG'
DEFAULT l
PROMPT 0
TIMEOUT 1
LABEL l
 KERNEL /vmlinuz
 INITRD /initrd.gz
 APPEND console=ttyS0 quiet nokaslr mitigations=off noxsaves clearcpuid=321 nopku acpi=off noapic tsc=unstable lpj=1000000 random.trust_cpu=on
CFG
xorriso -as mkisofs -quiet -o t.iso -b isolinux/isolinux.bin -c isolinux/boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table iso
cat > bochsrc <<RC
plugin_ctrl: unmapped=1, biosdev=1, speaker=0, extfpuirq=1, parallel=0, serial=1, gameport=0
display_library: term
cpu: model=corei7_skylake_x, count=1, ips=50000000, ignore_bad_msrs=1
megs: 512
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
boot: cdrom
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path=$dir/t.iso, status=inserted
com1: enabled=1, mode=file, dev=$dir/serial.out
log: $dir/bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
clock: sync=none, time0=local
RC
echo c > continue # Debian's bochs stops in its debugger
rm -f serial.out
TERM=xterm script -qfc "timeout 3600 bochs-bin -q -f bochsrc -rc continue" screen.out >/dev/null 2>&1 </dev/null &
# Bochs draws its screen on a terminal that nobody reads, and would stand still when that is full.
drain='use POSIX; my $fd = POSIX::open($ARGV[0], POSIX::O_RDWR | POSIX::O_NOCTTY | POSIX::O_NONBLOCK); POSIX::tcflush($fd, TCOFLUSH) if defined $fd'
while ! grep -q ALLDONE serial.out 2>/dev/null; do
	kill -0 $! || break
	tty=$(sed -n 's/.*connected to screen "\([^"]*\)".*/\1/p' screen.out 2>/dev/null)
	[ -z "$tty" ] || perl -e "$drain" "$tty"
	sleep 5
done
sleep 2
kill $! 2>/dev/null || true
grep -aE '^ *--- |DIED|ALLDONE' serial.out | tr -d '\r' > result.txt
cat result.txt
grep -q ALLDONE result.txt && ! grep -qE 'FAIL|DIED' result.txt
