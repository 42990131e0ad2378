weightfs-profile 1 tensors=1 bytes=1 model=m

# x
999999999.999 0.000 9999999999999999999 safetensors %