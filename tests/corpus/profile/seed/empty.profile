weightfs-profile 1 tensors=0 bytes=0 model=
