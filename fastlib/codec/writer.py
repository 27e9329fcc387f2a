"""Plain trees and messages to text."""
from .scalars import *
from . import scalars
def _leaf(v):
    if isinstance(v, str): return scalars.write_text(v)
    if v is None: return "null"
    if isinstance(v,bool): return "true" if v else "false"
    if isinstance(v,float): return scalars.write_float(v)
    return str(v)
def write_flow(tree):
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{scalars.write_text(k)}: {write_flow(v)}" for k,v in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(write_flow, tree)) + "]"
    return _leaf(tree)
def write_block(value, shape):
    return "---\n" + tree_block(shape.dump(value), "") + "---"
def tree_block(t, pad):
    if isinstance(t, dict) and t:
        out=""
        for k,v in t.items():
            key=scalars.write_text(k)
            key = f"{pad}{key}:" if len(key)<1000 else f"{pad}? {key}\n{pad}:"
            if isinstance(v, dict) and v: out+=f"{key}\n"+tree_block(v,pad+"  ")
            elif isinstance(v, list) and v and not all(isinstance(i,list) for i in v): out+=f"{key}\n"+tree_block(v,pad+"  ")
            elif isinstance(v,str): out+=f"{key} {scalars.write_block_text(v,pad)}\n"
            else: out+=f"{key} {write_flow(v)}\n"
        return out
    if isinstance(t, list) and t and not all(isinstance(i,list) for i in t):
        out=""
        for v in t:
            if isinstance(v,(dict,list)) and v and not (isinstance(v,list) and all(isinstance(i,list) for i in v)):
                out+=f"{pad}- "+tree_block(v,pad+"  ")[len(pad)+2:]
            else: out+=f"{pad}- {write_flow(v)}\n"
        return out
    return pad+write_flow(t)+"\n"
