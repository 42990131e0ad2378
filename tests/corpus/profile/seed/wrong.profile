weightfs-profile 1 tensors=1 bytes=1 model=m
0.000 0.000 1 tensors a%4
0.0 0 1 tensors
