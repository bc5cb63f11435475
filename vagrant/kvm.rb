# SPDX-License-Identifier: MIT

require "etc"
require "tempfile"
require "timeout"

# Tells whether KVM runs programs on this machine, by having it run one of five
# instructions: there are machines where /dev/kvm can be opened, and then QEMU aborts or
# hangs. There are others, VMs themselves, where it works by tricks: a BIOS takes much
# longer there than by emulation, and Linux does not come up at all. ACCEL=kvm and
# ACCEL=tcg settle it.
def kvm_works?(device = "/dev/kvm")
  return ENV["ACCEL"] == "kvm" if %w[kvm tcg].include?(ENV["ACCEL"])
  return false unless RbConfig::CONFIG["host_cpu"] == "x86_64" && open_to_libvirt?(device)

  emulated = boot_time("tcg", "max") or return false
  limit = [1, 5 * emulated].max
  # A machine that is busy may be late once.
  2.times.any? { (boot_time("kvm", "host") || limit) < limit }
end

# libvirt's QEMU is neither root nor you: all may open the device, or the group kvm.
def open_to_libvirt?(device)
  st = File.stat(device)
  group = st.gid != 0 && Etc.getgrgid(st.gid)&.name == "kvm"
  File.writable?(device) && (st.mode & 0o006 == 0o006 || group && st.mode & 0o060 == 0o060)
rescue SystemCallError, ArgumentError # it is not there, or the group has no name
  false
end

# A boot sector that writes 42 to a port by which QEMU ends with the exit code 2*42+1.
BOOT_SECTOR = "\xBA\xF4\x00\xB0\x2A\xEE\xF4".b.ljust(510, "\0") + "\x55\xAA".b

# How many seconds QEMU takes for the boot sector, from its start to its end; nil where
# that does not come.
def boot_time(accel, cpu)
  Tempfile.create("boot") do |disk|
    disk.binmode
    disk.write(BOOT_SECTOR.ljust(1 << 20, "\0"))
    disk.close
    start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    qemu = spawn("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
      "-machine", "pc,accel=#{accel}", "-cpu", cpu, "-device", "isa-debug-exit,iobase=0xf4,iosize=1",
      "-drive", "file=#{disk.path},format=raw", in: File::NULL, out: File::NULL, err: File::NULL)
    begin
      status = Timeout.timeout(10) { Process.wait2(qemu)[1].exitstatus }
      Process.clock_gettime(Process::CLOCK_MONOTONIC) - start if status == 85
    rescue Timeout::Error
      Process.kill("KILL", qemu)
      Process.wait(qemu)
      nil
    end
  end
rescue SystemCallError # there is no QEMU
  nil
end
