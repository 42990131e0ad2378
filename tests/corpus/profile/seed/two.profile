weightfs-profile 1 tensors=3 bytes=12 model=llama%203
# first_s time_s bytes view name
0.000 0.031 52428800 tensors model.embed_tokens.weight
0.040 12.004 8388608 npy odd name%0A
