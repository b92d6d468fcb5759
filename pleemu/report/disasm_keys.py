"""The keys of the JSON of `pleemu disasm`: apart from what makes it, so that help needs no decoder."""

# The keys of the JSON object, as `pleemu disasm --help` documents them.
DISASM_KEYS = {
    "name": "the guest's name",
    "processor": "whose cycles these are",
    "compilers": "as the objects name them",
    "image": "digest of the linked guest",
    "entry": "address at which every vCPU starts",
    "instructions": "address, bytes, text, cycles, symbols, probe, source of each",
    "gaps": "address, size, kind and symbols of what is not decoded",
}
