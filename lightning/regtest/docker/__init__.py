"""The same regtest network as containers: the images, built here where no registry has them, and the stack."""
