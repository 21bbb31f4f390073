
BprobabilitiesJPÇnë;ü=µV°>é·@=€D>^x>h‹á<æE<øiD>^M=u·;dõæ<i¡>‚w=Hy0>ú}>Õ=™<h!<V]]>˜g=