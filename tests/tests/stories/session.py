"""Writes over one SMB session until a file appears. Prints how many writes
succeeded; any error ends it."""
import os, sys, time
from samba import credentials
from samba.samba3 import libsmb_samba_internal as libsmb, param

stop, address = sys.argv[1], sys.argv[2]
loadparm = param.get_context()
loadparm.load("/etc/samba/smb.conf")
nobody = credentials.Credentials()
nobody.set_anonymous()
connection = libsmb.Conn(address, "share", lp=loadparm, creds=nobody)
open(stop + ".ready", "w").close()
writes = 0
while not os.path.exists(stop):
    connection.savefile("session.dat", b"%d" % writes)
    writes += 1
    time.sleep(0.1)
print(writes)
